"""Takes decisions for reuse back, where the compiled model was measured slower than the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reuse_compiler.passes.choose_parameters import FORCE, Decision
from reuse_compiler.passes.layer import ConvLayer


def take_back(decisions: Sequence[Decision], measured: str) -> list[Decision]:
    """Returns the decisions with the worse half of the rewritten layers left dense, `measured` being the reason.

    The worse are those of which the least gain is expected. The last layer goes alone, so that repeating this ends with
    a model that is left as it is.
    """
    best_first = sorted((each for each in decisions if each.plan is not None), key=_expected_gain, reverse=True)
    worse = {each.layer.name for each in best_first[len(best_first) // 2 :]}
    return [_taken_back(each, measured) if each.layer.name in worse else each for each in decisions]


def take_all_back(decisions: Sequence[Decision], measured: str) -> list[Decision]:
    """Returns the decisions with all rewritten layers left dense, `measured` being the reason."""
    return [each if each.plan is None else _taken_back(each, measured) for each in decisions]


def _taken_back(decision: Decision, measured: str) -> Decision:
    reason = f"taken back, as {measured} ({decision.reason}); {FORCE}"
    return replace(decision, plan=None, reason=reason)


def _expected_gain(decision: Decision) -> float:
    """Returns the multiply-adds of the dense convolution that are expected to be saved; none if that is not known."""
    if decision.cost is None or not isinstance(decision.layer, ConvLayer):
        return 0.0
    spec = decision.layer.spec
    return (1.0 - decision.cost.total) * spec.rows * spec.columns * spec.out_channels
