"""Chooses the segments of a model that get two forms, and writes them into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reuse_compiler.graph.save import LARGEST_MODEL_BYTES as MOST_BYTES
from reuse_compiler.graph.tensors import data_bytes, is_external, tensors_of
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.add_function_bodies import add_function_bodies
from reuse_compiler.passes.check_result import check_result
from reuse_compiler.passes.choose_parameters import Decision, plan_of
from reuse_compiler.passes.layer import ConvLayer, Prepared
from reuse_compiler.passes.lower_to_reuse import lower_to_reuse
from reuse_compiler.passes.record_settings import record_settings
from reuse_compiler.pipeline import Lowered, carry_out
from reuse_compiler.regions.guard import Guards, Question, TwoForms, guard
from reuse_compiler.regions.saving import LEAST_SAVING, Saving, expected_saving, measured_saving
from reuse_compiler.regions.segments import Flow, Segment, Segments, affordable_samples, cut_into_segments
from reuse_compiler.regions.windows import Window
from reuse_compiler.report import RegionReport
from reuse_compiler.reuse.plan import Plan
from reuse_compiler.verification.sessions import Measuring

MARGIN = 0.06
"""Of the dense time, that is to be saved at least: a sample may be wrong by about as much."""
ENTRY_MARGIN = 0.15
"""The same, where borders between segments and those behind the last come with it."""
FORMS = 3
"""How often the same weights stand in a model at most: in its form with reuse, and twice in original nodes."""
SINGLE = "--single rewrites it all the same"


@dataclass(frozen=True)
class Region:
    """A segment that gets two forms, and what the one with reuse saves."""

    segment: Segment
    saving: Saving

    @property
    def saves_enough(self) -> bool:
        """Whether it is worth having two forms."""
        return self.saving.most >= LEAST_SAVING

    def report(self) -> RegionReport:
        """Returns the line of the report."""
        return RegionReport(
            source=self.segment.source,
            layers=list(self.saving.gains),
            needed=self.saving.needed(MARGIN),
            saves=self.saving.most,
            measured=self.saving.measured,
        )

    def question(self, source: str, channels: int, windows: Mapping[str, Window], margin: float) -> Question:
        """Returns the question to a source in which some of the layers have a window."""
        gains = {name: gain for name, gain in self.saving.gains.items() if name in windows}
        samples = affordable_samples([windows[name].side for name in gains], channels, self.segment.work)
        return Question(source, windows, gains, self.saving.loss + margin, samples)


@dataclass(frozen=True)
class Regions:
    """The parts of the main graph with two forms, in order."""

    parts: Sequence[Region]
    segments: Segments

    def report(self) -> list[RegionReport]:
        """Returns the lines of the report."""
        return [region.report() for region in self.parts]

    def widened(self, prepared: Prepared) -> Regions | None:
        """Returns the same with all further nodes in both forms, if they are not yet."""
        end = len(prepared.model.graph.node)
        return replace(self, segments=replace(self.segments, stop=end)) if self.segments.stop < end else None

    def guards(self) -> Guards:
        """Returns how runs choose. Entering costs borders, so that more must be saved for it.

        There are none if a single segment is all, as that of a quantised model.
        """
        first, seen, entry, forms = self.parts[0].segment, self.segments.windows, [], []
        is_all = len(self.parts) == 1 and self.segments.stop == first.stop and self.parts[0].saving.measured
        margin = MARGIN if is_all else ENTRY_MARGIN
        for region in self.parts:
            own = region.segment
            windows = own.windows if own is first else seen
            if windows.keys() & region.saving.gains:
                entry.append(region.question(first.source, first.channels, windows, margin))
            forms.append(TwoForms(own, region.question(own.source, own.channels, own.windows, MARGIN)))
        return Guards(entry, forms, self.segments.stop)


def find_regions(
    prepared: Prepared, decisions: Sequence[Decision], measuring: Measuring | None
) -> tuple[list[Decision], Regions | None]:
    """Returns the regions for the layers that were chosen, and the decisions with those in none of them left dense.

    Savings are measured on this machine, or else by the cost model. None: no layer is in a region.
    """
    left, flow = list(decisions), Flow(prepared.model)
    if FORMS * sum(data_bytes(tensor) for tensor in tensors_of(prepared.model) if not is_external(tensor)) > MOST_BYTES:
        why = f"weights of two forms are too large for a file of 2 GB: save the model's as external data, or {SINGLE}"
        return [replace(each, plan=None, reason=why) if each.plan is not None else each for each in left], None
    while True:
        plan = plan_of(left)
        segments = cut_into_segments(prepared, _candidates(prepared, plan), flow)
        seen = {name for segment in segments.parts for name in segment.windows} if segments else set()
        left = [_unseen(each) if each.plan is not None and each.layer.name not in seen else each for each in left]
        if segments is None:
            return left, None
        regions = _weigh(prepared, segments.parts, flow, plan_of(left), measuring)
        by_layer = {name: region for region in regions for name in region.segment.windows}
        left = [_told(each, by_layer[each.layer.name]) if each.plan is not None else each for each in left]
        if all(region.saves_enough for region in regions):
            return left, Regions(regions, segments)
        # Nodes whose own region is gone belong to another now, which changes its borders and where it looks.


def _candidates(prepared: Prepared, plan: Plan) -> list[ConvLayer]:
    layers = prepared.convolutions.items()
    return [layer for name, layer in layers if name in plan and layer.in_main and layer.spec.size_known]


def _weigh(
    prepared: Prepared,
    segments: Sequence[Segment],
    flow: Flow,
    plan: Plan,
    measuring: Measuring | None,
) -> list[Region]:
    """Returns the segments with what they save."""
    if measuring is None:
        return [Region(segment, expected_saving(prepared, segment, plan)) for segment in segments]
    rewritten, regions = lower_to_reuse(prepared, plan), []
    for number, segment in enumerate(segments):
        measuring.progress("weighing regions", number, len(segments))
        saving = measured_saving(prepared, rewritten, segment, flow, plan, measuring)
        regions.append(Region(segment, saving or expected_saving(prepared, segment, plan)))
    measuring.progress("weighing regions", len(segments), len(segments))
    return regions


def carry_out_guarded(
    prepared: Prepared, decisions: Sequence[Decision], regions: Regions | None, options: CompileOptions
) -> Lowered:
    """Returns the model with two forms of its regions; without any, the original."""
    lowered = carry_out(prepared, decisions, options)
    if regions is None:
        return lowered
    plan = plan_of(decisions)
    reuse = lower_to_reuse(prepared, plan, dense_inputs=options.fallback).model
    model = guard(prepared, reuse, regions.guards())
    if options.fallback:
        add_function_bodies(model)
    record_settings(model, plan, options)
    check_result(prepared.model, model, len(plan))
    return replace(lowered, guarded=model)


def _unseen(decision: Decision) -> Decision:
    """Returns the decision of a layer that stands in no region."""
    if isinstance(decision.layer, ConvLayer) and not decision.layer.in_main:
        why = "it stands in a body, where there are no regions"
    else:
        why = "a small sample cannot tell whether its input repeats, or would take too long beside the layer"
    return replace(decision, plan=None, reason=f"{why}; {SINGLE}")


def _told(decision: Decision, region: Region) -> Decision:
    """Returns the decision of a layer of a region, with what is expected of it."""
    saving = region.saving
    how = "measured" if saving.measured else "expected"
    if not region.saves_enough:
        why = f"even where all repeats, its region saves {max(0.0, saving.most):.0%} of the time ({how})"
        return replace(decision, plan=None, reason=f"{why}; {SINGLE}")
    where = f"in runs in which {saving.needed(MARGIN):.0%} of '{region.segment.source}' repeats"
    why = f"{where}, to save up to {saving.most:.0%} of the time ({how})"
    return replace(decision, reason=why)
