"""The search on layers whose harm is known: what it finds, and with how many trials."""

from collections.abc import Callable, Iterable
from itertools import pairwise, product
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_compiler.calibration.report import Measurement, Trial
from reuse_compiler.calibration.search import (
    Choice,
    LayerChoices,
    Search,
    Step,
    choice_after,
    harm_allowed,
    path_of,
    settings_of,
)
from reuse_compiler.reuse.config import make_settings

DENSE_MS = 32.0


def measurement(saved: float, error: float, hashes: int = 1, operations: float = 0.5) -> Measurement:
    return Measurement(
        settings=make_settings(layout="channel", L=4, H=hashes),
        r_c=0.1, output_error=error, dense_ms=DENSE_MS, reuse_ms=DENSE_MS - saved, operations=operations,
    )  # fmt: skip


def choices(name: str, points: Iterable[tuple[float, float]], sensitivity: float = 1.0) -> LayerChoices:
    """A layer with measurements of (milliseconds saved, output error)."""
    return LayerChoices(
        name, 1000, sensitivity, [measurement(*point, hashes=1 + index) for index, point in enumerate(points)]
    )


def gain_of(choice: Choice) -> float:
    return sum(own.dense_ms - own.reuse_ms for own in choice.values())


def harm_of(choice: Choice, layers: Iterable[LayerChoices]) -> float:
    sensitivity = {layer.name: layer.sensitivity for layer in layers}
    return sum(sensitivity[name] * own.output_error**2 for name, own in choice.items())


class Bench:
    """Measures choices end to end, by a rule."""

    def __init__(self, accepts: Callable[[Choice], bool]) -> None:
        self._accepts = accepts
        self.tried: list[Choice] = []

    def __call__(self, step: str, choice: Choice) -> Trial:
        assert step and choice
        self.tried.append(choice)
        return Trial(
            step=step, layers=settings_of(choice), value=0.0, drop=0.0, output_error=0.0, dense_ms=1.0, reuse_ms=1.0,
            accepted=self._accepts(choice),
        )  # fmt: skip


POINTS = st.lists(st.tuples(st.integers(-3, 9), st.integers(0, 8).map(lambda e: e / 8)), max_size=6)
LAYERS = st.lists(st.tuples(POINTS, st.sampled_from([0.0, 0.5, 1.0, 20.0])), max_size=4).map(
    lambda layers: [choices(f"conv{i}", points, sensitivity) for i, (points, sensitivity) in enumerate(layers)]
)


class TestPath:
    @settings(max_examples=200, deadline=None)
    @given(layers=LAYERS)
    def test_steps_become_ever_dearer_and_stay_in_order(self, layers: list[LayerChoices]) -> None:
        path = path_of(layers, "latency")
        assert all(step.gain > 0 and step.harm >= 0 for step in path)
        prices = [step.harm / step.gain for step in path]
        assert prices == sorted(prices)
        for layer in layers:
            own = [step for step in path if step.layer == layer.name]
            assert own == layer.steps("latency")
            saved = [DENSE_MS - step.measurement.reuse_ms for step in own]
            assert all(less < more for less, more in pairwise(saved))

    @settings(max_examples=100, deadline=None)
    @given(layers=LAYERS)
    def test_no_choice_beats_one_on_the_path(self, layers: list[LayerChoices]) -> None:
        """Of all combinations, none saves more than a choice on the path at less harm."""
        path = path_of(layers, "latency")
        options = [[None, *layer.measurements] for layer in layers]
        all_choices = [
            {layer.name: own for layer, own in zip(layers, combination, strict=True) if own is not None}
            for combination in product(*options)
        ]
        for length in range(len(path) + 1):
            best = choice_after(path[:length])
            for other in all_choices:
                if harm_of(other, layers) < harm_of(best, layers) - 1e-9:
                    assert gain_of(other) <= gain_of(best) + 1e-6

    @settings(max_examples=100, deadline=None)
    @given(layers=LAYERS)
    def test_it_ends_with_the_fastest_of_each_layer(self, layers: list[LayerChoices]) -> None:
        expected = sum(max([0.0, *(DENSE_MS - own.reuse_ms for own in layer.measurements)]) for layer in layers)
        assert gain_of(choice_after(path_of(layers, "latency"))) == pytest.approx(expected)

    def test_operations_may_be_what_counts(self) -> None:
        layer = LayerChoices(
            "conv", 1000, 1.0, [measurement(-5, 0.1, 1, operations=0.25), measurement(5, 0.1, 2, operations=1.5)]
        )
        (step,) = path_of([layer], "operations")
        assert step.measurement.settings.num_hashes == 1 and step.gain == pytest.approx(750)
        (step,) = path_of([layer], "latency")
        assert step.measurement.settings.num_hashes == 2 and step.gain == pytest.approx(5)

    @pytest.mark.parametrize("bad", [float("inf"), float("nan")])
    def test_results_that_break_are_no_candidates(self, bad: float) -> None:
        layer = choices("conv", [(5, bad), (3, 0.1), (7, bad), (6, 0.3)])
        assert [step.measurement.settings.num_hashes for step in layer.steps("latency")] == [2, 4]
        assert choices("conv", [(5, 0.1)], sensitivity=bad).steps("latency") == []


class TestSearch:
    @settings(max_examples=200, deadline=None)
    @given(layers=LAYERS, budget=st.floats(0, 4), trials=st.integers(0, 40))
    def test_the_budget_and_the_number_of_trials_are_kept(
        self, layers: list[LayerChoices], budget: float, trials: int
    ) -> None:
        bench = Bench(lambda choice: harm_of(choice, layers) <= budget)
        found = Search(layers, "latency", bench, trials).run()
        assert len(bench.tried) <= trials
        assert harm_of(found, layers) <= budget
        assert found == {} or found in bench.tried
        accepted = [gain_of(choice) for choice in bench.tried if harm_of(choice, layers) <= budget]
        assert gain_of(found) == pytest.approx(max(accepted, default=0.0))
        texts = [str(settings_of(choice)) for choice in bench.tried]
        assert len(texts) == len(set(texts)), "a choice is tried once"

    @settings(max_examples=200, deadline=None)
    @given(layers=LAYERS, budget=st.floats(0, 4))
    def test_with_harm_that_adds_up_the_furthest_choice_is_found(
        self, layers: list[LayerChoices], budget: float
    ) -> None:
        path = path_of(layers, "latency")
        found = Search(layers, "latency", Bench(lambda choice: harm_of(choice, layers) <= budget), 1000).run()
        kept = [choice for n in range(len(path) + 1) if harm_of(choice := choice_after(path[:n]), layers) <= budget]
        assert gain_of(found) >= max(gain_of(choice) for choice in kept) - 1e-9

    @settings(max_examples=200, deadline=None)
    @given(layers=LAYERS, budget=st.floats(0, 4), power=st.floats(-2, 2))
    def test_wrong_expectations_do_not_change_what_is_found(
        self, layers: list[LayerChoices], budget: float, power: float
    ) -> None:
        def spent(trial: Trial) -> float:
            return float(len(trial.layers) ** power)

        def found_by(spent: Callable[[Trial], float]) -> Choice:
            return Search(layers, "latency", bench, 1000, spent).run()

        bench = Bench(lambda choice: harm_of(choice, layers) <= budget)
        assert gain_of(found_by(spent)) == pytest.approx(gain_of(found_by(lambda trial: nan)))

    @pytest.mark.parametrize("power", [0.5, 0.6, 1.0])
    def test_what_trials_have_spent_leads_to_the_end_of_the_budget(self, power: float) -> None:
        """As a trial's drop grows with a power of the harm, the third one is within two of the 100 steps."""
        layers = [choices(f"conv{i}", [(9, 0.01 * (i + 1))]) for i in range(100)]
        path = path_of(layers, "latency")
        budget = harm_of(choice_after(path[:40]), layers)

        def share(choice: Choice) -> float:
            return float((harm_of(choice, layers) / budget) ** power)

        bench = Bench(lambda choice: share(choice) <= 1)
        Search(layers, "latency", bench, 3, lambda trial: share(bench.tried[-1])).run()
        assert len(bench.tried[0]) == 25 and abs(len(bench.tried[2]) - 40) <= 2

    def test_what_fits_after_a_step_that_does_not_is_won_back(self) -> None:
        layers = [choices("a", [(9, 0.5)]), choices("b", [(8, 1.0)]), choices("c", [(1, 0.4)])]
        found = Search(layers, "latency", Bench(lambda choice: "b" not in choice), 10).run()
        assert set(found) == {"a", "c"}

    def test_a_layer_that_harms_more_than_it_seemed_does_not_stand_in_the_way(self) -> None:
        """The first step breaks everything; the search still ends, and within its trials."""
        layers = [choices("a", [(9, 0.1)]), choices("b", [(8, 0.2)]), choices("c", [(7, 0.3)])]
        bench = Bench(lambda choice: "a" not in choice)
        found = Search(layers, "latency", bench, 10).run()
        assert "a" not in found and set(found) == {"b", "c"}

    def test_candidates_off_the_path_are_tried_between_its_steps(self) -> None:
        """The hull goes from 2 to 9 milliseconds; what keeps the budget lies between, above it."""
        layer = choices("conv", [(2, 0.1), (5, 0.6), (6, 0.65), (9, 0.7)])
        bench = Bench(lambda choice: harm_of(choice, [layer]) <= 0.4)
        assert gain_of(Search([layer], "latency", bench, 10).run()) == 5

    def test_nothing_to_try(self) -> None:
        bench = Bench(lambda choice: True)
        assert Search([], "latency", bench, 5).run() == {} and bench.tried == []

    def test_all_that_gains_is_taken_at_once_where_nothing_harms(self) -> None:
        layers = [choices(f"conv{i}", [(1 + i, 0.1), (2 + i, 0.2)]) for i in range(20)]
        path = path_of(layers, "latency")
        bench = Bench(lambda choice: True)
        assert Search(layers, "latency", bench, 8).run() == choice_after(path)
        assert len(bench.tried) <= 7


def test_the_harm_that_is_allowed_follows_from_the_trials_that_are_nearest() -> None:
    assert harm_allowed([]) is None and harm_allowed([(0.0, 0.5), (1.0, 0.0), (1.0, -1.0), (inf, 2.0)]) is None
    assert harm_allowed([(1.0, nan), (1.0, inf)]) is None
    assert harm_allowed([(4.0, 2.0)]) == pytest.approx(1.0), "one trial: as with an error"
    assert harm_allowed([(4.0, 2.0), (2.0, 0.5), (1e6, 1e6)]) == pytest.approx(8**0.5)
    # Two trials that contradict each other.
    assert harm_allowed([(4.0, 2.0), (5.0, 0.9)]) == pytest.approx(5 * 0.9**-4)
    assert harm_allowed([(1e300, 1e-300)]) > 1e300  # type: ignore[operator]


def test_a_step_has_what_the_last_one_lacks() -> None:
    layer = choices("conv", [(2, 0.1), (4, 0.3)], sensitivity=2.0)
    first, second = layer.steps("latency")
    assert isinstance(first, Step) and first.gain == pytest.approx(2) and first.harm == pytest.approx(0.02)
    assert second.gain == pytest.approx(2) and second.harm == pytest.approx(2 * (0.09 - 0.01))
