"""The strategies' decisions on sequences of losses and accuracies; no network is trained here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pytest

from reuse_compiler.errors import ConfigError
from reuse_compiler.training.loss_trend import LossTrend, TrendOptions
from reuse_compiler.training.strategies import AdaptiveStrategy, ClusterReuseStrategy, FixedStrategy

QUICK = TrendOptions(window=2, patience=1, least_decrease=0.1)


class Model:
    """Has an accuracy for each stage."""

    def __init__(self, accuracies: Sequence[float]) -> None:
        self.accuracies, self.stage, self.set = accuracies, -1, list[int]()

    def apply(self, stage: int) -> None:
        self.stage = stage
        self.set.append(stage)

    def evaluate(self) -> float:
        return self.accuracies[self.stage]


def stall(strategy: AdaptiveStrategy, evaluate: Callable[[], float]) -> None:
    """Gives losses that do not fall until the strategy switches."""
    for _ in range(4):
        strategy.step(1.0, evaluate)


def test_a_loss_falls_as_long_as_windows_have_new_lowest_means() -> None:
    trend = LossTrend(TrendOptions(window=2, patience=2, least_decrease=0.1))
    falling = [2.0, 1.0, 1.4, 1.2, 1.1, 0.9]  # means 1.5, 1.3, 1.0
    assert not any(trend.add(loss) for loss in falling)
    # 0.95 is less than a tenth below 1.0; the second such window ends it.
    assert [trend.add(loss) for loss in (0.9, 1.0, 0.95, 0.95)] == [False, False, False, True]
    trend.restart()
    assert not any(trend.add(loss) for loss in (5.0, 5.0, 5.0, 5.0))


def test_a_loss_that_is_no_number_does_not_fall() -> None:
    trend = LossTrend(QUICK)
    assert [trend.add(loss) for loss in (1.0, 1.0, float("nan"), float("nan"))] == [False, False, False, True]


@pytest.mark.parametrize(
    "accuracies, stage, reason",
    [
        ([0.2, 0.25, 0.29, 0.31, 0.5], 3, "3.1"),  # 1.5 * 0.2
        ([0.2, 0.31, 0.9], 1, "3.1"),
        ([0.6, 0.65, 0.69, 0.71], 3, "3.2"),  # 0.6 + 0.1
        ([0.5, 0.59, 0.61], 2, "3.2"),  # not below 0.5: ratios do not count
        ([0.4, 0.43, 0.45, 0.5], 2, "3.3"),  # no 0.6; the first with 0.44
        ([0.8, 0.885, 0.89], 1, "3.3"),  # no 0.9; 0.885 is 1.1 times
        ([0.8, 0.82, 0.85, 0.84], 3, "all skipped"),
        ([0.0, 0.0, 0.1], 1, "3.1"),
    ],
)
def test_the_next_stage_is_chosen_by_the_amendments(accuracies: list[float], stage: int, reason: str) -> None:
    model = Model(accuracies)
    strategy = AdaptiveStrategy(len(accuracies), model.apply, QUICK)
    assert model.stage == 0
    stall(strategy, model.evaluate)
    (switch,) = strategy.switches
    assert (switch.before, switch.after, strategy.stage, model.stage) == (0, stage, stage, stage)
    assert reason in switch.reason
    assert (switch.step, switch.loss) == (4, 1.0)
    assert switch.accuracies == {i: accuracies[i] for i in switch.accuracies}
    # No more candidates are tried than needed.
    assert max(switch.accuracies) == (stage if reason in ("3.1", "3.2") else len(accuracies) - 1)


def test_every_switch_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    model = Model([0.2, 0.4])
    with caplog.at_level(logging.INFO, "reuse_compiler.training"):
        stall(AdaptiveStrategy(2, model.apply, QUICK), model.evaluate)
    assert "step 4: stage 0 -> 1 at loss 1" in caplog.text


def test_it_goes_on_from_where_it_is_and_ends_with_the_last_stage() -> None:
    model = Model([0.1, 0.2, 0.6])
    strategy = AdaptiveStrategy(3, model.apply, QUICK)
    for _ in range(20):
        strategy.step(1.0, model.evaluate)
    assert [(switch.before, switch.after) for switch in strategy.switches] == [(0, 1), (1, 2)]
    assert model.set[-1] == 2
    assert strategy.steps == 20


def test_while_the_loss_falls_nothing_is_evaluated() -> None:
    strategy = AdaptiveStrategy(3, lambda stage: None, QUICK)
    for step in range(50):
        assert strategy.step(0.8**step, pytest.fail) is None


def test_cluster_reuse_ends_when_the_loss_has_stopped_falling() -> None:
    flags: list[bool] = []
    strategy = ClusterReuseStrategy(flags.append, QUICK)
    for loss in (2.0, 2.0, 1.0, 1.0, 1.0):
        assert strategy.step(loss, pytest.fail) is None
    switch = strategy.step(1.0, pytest.fail)
    assert switch is not None and switch.step == 6
    for _ in range(20):
        assert strategy.step(1.0, pytest.fail) is None
    assert flags == [True, False]


def test_the_fixed_strategy_never_switches() -> None:
    strategy = FixedStrategy()
    assert all(strategy.step(1.0, pytest.fail) is None for _ in range(500))
    assert strategy.steps == 500


def test_a_checkpoint_goes_on_as_if_nothing_had_happened() -> None:
    losses = [1.0, 0.99] * 12
    model, resumed = Model([0.1, 0.2, 0.4, 0.8]), Model([0.1, 0.2, 0.4, 0.8])
    whole = AdaptiveStrategy(4, model.apply, QUICK)
    for loss in losses:
        whole.step(loss, model.evaluate)
    for stop in range(len(losses)):
        first = AdaptiveStrategy(4, Model([0.1, 0.2, 0.4, 0.8]).apply, QUICK)
        tried = Model([0.1, 0.2, 0.4, 0.8])
        first = AdaptiveStrategy(4, tried.apply, QUICK)
        for loss in losses[:stop]:
            first.step(loss, tried.evaluate)
        second = AdaptiveStrategy(4, resumed.apply, QUICK)
        second.load_state_dict(first.state_dict())
        assert resumed.stage == tried.stage
        for loss in losses[stop:]:
            second.step(loss, resumed.evaluate)
        assert second.switches == whole.switches
        assert second.state_dict() == whole.state_dict()


def test_a_checkpoint_of_cluster_reuse_sets_the_flag() -> None:
    flags: list[bool] = []
    strategy = ClusterReuseStrategy(flags.append, QUICK)
    for _ in range(4):
        strategy.step(1.0, pytest.fail)
    restored = ClusterReuseStrategy(flags.append, QUICK)
    restored.load_state_dict(strategy.state_dict())
    assert flags == [True, False, True, False]


@pytest.mark.parametrize("options", [{"window": 0}, {"patience": 0}, {"least_decrease": 1.0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        TrendOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one stage"):
        AdaptiveStrategy(0, lambda stage: None)
