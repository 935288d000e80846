"""Turns settings for some layers into a plan: layer after layer, fitted to what the earlier layers' reuse leaves."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reuse_compiler.calibration.activations import Activations, Start, one_by_one
from reuse_compiler.calibration.clusters import Clusterer
from reuse_compiler.calibration.effort import Effort
from reuse_compiler.calibration.layers import Workpiece
from reuse_compiler.calibration.linear import with_linear_outputs
from reuse_compiler.calibration.workers import SERIAL, Shared, Workers
from reuse_compiler.fitting.hashes import HashFitter, VectorSampler
from reuse_compiler.fitting.reconstruct import (
    CHECKED_SHARE,
    LayerFit,
    LayerReconstruction,
    Reconstruct,
    places_of_run,
    reconstruction_rows,
)
from reuse_compiler.fitting.vectors import Floats, Places, lifted, pixels_at, usable_rows
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.paths import temporary_folder
from reuse_compiler.pipeline import apply_plan
from reuse_compiler.processors import processors
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.plan import LayerPlan, LayerWeights, Plan
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.sessions import COMPILED, ORIGINAL, open_session, run_session
from reuse_compiler.verification.verify import LayerTensor, in_chunks

DRAFT_ROWS = 32_768
"""Rows that the weights of a draft are fitted to, at most: few columns would get as many as in full. Many columns get
one for each."""


@dataclass(frozen=True)
class Deployment:
    """A plan with all that was fitted for it."""

    plan: Plan = field(default_factory=dict)
    errors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By layer: relative error of its output with the earlier layers' reuse on, as is and reconstructed, with tables of
    the type that the layer has."""


def input_of(
    work: Workpiece, plan: Plan, layer: ConvLayer, feeds: Sequence[Feed], start: Start | None = None
) -> Activations:
    """Returns what the planned layers' reuse leaves to `layer` as its input, in the order NCHW, run by run."""
    return Activations(apply_plan(work.prepared, plan, keep_order=True).model, [layer.input], feeds, COMPILED, start)


@dataclass(frozen=True)
class Rows:
    """A run of a layer: its input, the output pixels that are looked at, and what the original computes there."""

    x: Shared
    places: Places
    target: Shared


@dataclass(frozen=True)
class Shard:
    """Some runs of a layer, whose rows are added to those of the others."""

    plan: LayerPlan
    weights: Floats
    biases: Floats
    how: Reconstruct
    products: float
    runs: Sequence[Rows] = ()
    held_back: bool | None = None

    def begun(self) -> LayerFit:
        """Returns a fit of the layer that has no rows yet."""
        blocking = self.plan.settings.blocking(self.plan.spec)
        return LayerFit(blocking, self.weights, self.biases, self.how, self.plan.centroids, self.products)


def fit_rows(shard: Shard) -> LayerFit:
    """Returns the rows of a shard, ready to be fitted to."""
    fit, clusterer = shard.begun(), Clusterer(shard.plan)
    for run in shard.runs:
        fit.add(*clusterer.ids_and_centroids(run.x.array), run.places, run.target.array, shard.held_back)
    return fit


class Deployer:
    """Fits layers of one model to one set of runs. What the original layers compute is collected once."""

    def __init__(
        self, work: Workpiece, feeds: Sequence[Feed], effort: Effort, seed: int, workers: Workers = SERIAL
    ) -> None:
        self._work, self._feeds, self._effort, self._seed, self._workers = work, feeds, effort, seed, workers
        self._targets: dict[str, list[Shared]] = {}
        self._folder = temporary_folder(self, "reuse-targets-")
        """Where those lie between fits: they would take more memory than anything else that is kept."""
        self._fitted: dict[Hashable, tuple[LayerPlan, tuple[float, float] | None]] = {}
        """What was fitted, by way of reconstruction, settings of the layer and of those before it."""
        self._drafts: dict[tuple[str, LayerSettings], LayerPlan] = {}

    def collect_targets(self, wanted: Iterable[str], progress: ProgressCallback = silent) -> None:
        """Runs the original model and keeps the layers' outputs at the places that reconstruction looks at."""
        layers = {layer.name: layer for layer in self._layers(wanted)}
        model, names = with_linear_outputs(self._work.model, list(layers.values()))
        pieces = [LayerTensor(name, names[name], layer.spec.output_bytes) for name, layer in layers.items()]
        done = 0
        for chunk in in_chunks(pieces):
            run = Activations(model, [piece.tensor for piece in chunk], self._feeds, ORIGINAL)
            for index, tensors in enumerate(run.once()):
                for piece, tensor in zip(chunk, tensors, strict=True):
                    layer = layers[piece.layer]
                    rows = pixels_at(lifted(tensor), self._places(layer, index))
                    self._targets.setdefault(layer.name, []).append(Shared(rows, self._folder))
                progress("collecting layer outputs", done + index * len(chunk) // len(run), len(pieces))
            done += len(chunk)
        progress("collecting layer outputs", len(pieces), len(pieces))

    def deploy(
        self,
        settings: Mapping[str, LayerSettings],
        how: Reconstruct,
        progress: ProgressCallback = silent,
        what: str = "fitting",
        draft: bool = False,
    ) -> Deployment:
        """Fits the given layers in graph order; the others stay as they are.

        A layer is fitted once for the same settings of its own and of the layers before it. A `draft` is enough to
        compare choices: each layer is fitted to what the original model gives it, so once for its own settings, its
        weights to fewer rows, centroids in fewer steps, and errors are not looked at.
        """
        missing = settings.keys() - self._targets.keys()
        if how != "none" and missing:
            self.collect_targets(missing, progress)
        if draft and how == "weights":
            return self._drafted(settings, progress, what)
        plan: dict[str, LayerPlan] = {}
        errors: dict[str, tuple[float, float]] = {}
        start = None
        for index, layer in enumerate(self._layers(settings)):
            progress(what, index, len(settings))
            own = settings[layer.name]
            key = (how, *((name, before.settings) for name, before in plan.items()), (layer.name, own))
            if key not in self._fitted:
                inputs = input_of(self._work, plan, layer, self._feeds, start)
                self._fitted[key] = self._fit(layer, own, inputs, how)
                start = inputs.as_start()
            plan[layer.name], error = self._fitted[key]
            if error is not None:
                errors[layer.name] = error
        progress(what, len(settings), len(settings))
        return Deployment(plan, errors)

    def _drafted(self, settings: Mapping[str, LayerSettings], progress: ProgressCallback, what: str) -> Deployment:
        missing = [own for own in self._layers(settings) if (own.name, settings[own.name]) not in self._drafts]
        pieces = [LayerTensor(layer.name, layer.input, layer.spec.input_bytes) for layer in missing]
        runs = one_by_one(self._work.model, pieces, self._feeds, ORIGINAL)
        progress(what, 0, len(missing))
        for index, (layer, inputs) in enumerate(zip(missing, runs, strict=True)):
            own = settings[layer.name]
            self._drafts[layer.name, own], _ = self._fit(layer, own, inputs, "weights", draft=True)
            progress(what, index + 1, len(missing))
        return Deployment(
            {layer.name: self._drafts[layer.name, settings[layer.name]] for layer in self._layers(settings)}
        )

    def _layers(self, wanted: Iterable[str]) -> list[ConvLayer]:
        """Returns layers in graph order."""
        return [layer for layer in self._work.layers if layer.name in wanted]

    def with_plan(self, plan: Plan, before: Deployment) -> Deployment:
        """Returns a plan that was made of a deployment's by other means, with the errors that its layers have now.

        They are measured on the runs that judged, which may have had a part in making it.
        """
        errors, earlier, start = {}, dict[str, LayerPlan](), None
        for layer in self._layers(plan):
            own = plan[layer.name]
            inputs = input_of(self._work, earlier, layer, self._feeds, start)
            if layer.name in before.errors:
                errors[layer.name] = (before.errors[layer.name][0], self._error_of_tables(layer, own, inputs))
            earlier[layer.name], start = own, inputs.as_start()
        return Deployment(plan, errors)

    def _fit(
        self, layer: ConvLayer, settings: LayerSettings, inputs: Activations, how: Reconstruct, draft: bool = False
    ) -> tuple[LayerPlan, tuple[float, float] | None]:
        """Returns a layer's plan for these inputs, and the errors of its result as is and reconstructed."""
        plan = self._fitted_to(layer, settings, inputs)
        if how == "none" or FAMILIES[settings.family].lossless:
            return plan, None
        found = self._reconstruct(layer, plan, inputs, how, draft)
        fitted = replace(plan, centroids=found.centroids)
        best = replace(fitted, weights=_weights(layer, found.weight, found.bias))
        if draft:
            return best, None
        errors = (found.error_as_is, found.error)
        if settings.table == "int8":
            judged = replace(fitted, weights=_weights(layer, *found.judged))
            errors = (self._error_of_tables(layer, plan, inputs), self._error_of_tables(layer, judged, inputs))
        return best, errors

    def _fitted_to(self, layer: ConvLayer, settings: LayerSettings, inputs: Activations) -> LayerPlan:
        sampler = VectorSampler(
            layer.name, layer.spec, settings.layout, self._effort.fit_vectors, len(inputs), self._seed
        )
        for (x,) in inputs:
            sampler.add(layer.input_values(x))
        return HashFitter(sampler.sample(), layer.weights).plan(settings)

    def _reconstruct(
        self, layer: ConvLayer, plan: LayerPlan, inputs: Activations, how: Reconstruct, draft: bool
    ) -> LayerReconstruction:
        empty = Shard(plan, layer.weights, layer.biases, how, self._effort.products)
        fit = empty.begun()
        for rows in self._workers.map(fit_rows, self._shards(layer, empty, inputs, self._every(layer, draft))):
            fit.include(rows)
        return fit.solve(draft)

    def _shards(self, layer: ConvLayer, empty: Shard, inputs: Activations, every: int) -> Iterator[Shard]:
        """Yields the runs dealt out to CHECKED_SHARE tasks, or one to each; the last task's are held back.

        They have one in `every` of the rows.
        """
        runs, share = len(inputs), self._workers.share
        judges = [self._judges(index, inputs) for index in range(runs)]
        fitted = judges.index(True)
        size = max(1, -(-fitted // (CHECKED_SHARE - 1)))
        ends = {*range(size, fitted, size), fitted, runs}
        rows = []
        for index, (x,) in enumerate(inputs):
            places, target = self._places(layer, index)[::every], self._targets[layer.name][index].array[::every]
            rows.append(Rows(share(layer.input_values(x)), places, share(target)))
            if index + 1 in ends:
                # A single run is judged by some of its own rows.
                yield replace(empty, runs=rows, held_back=None if runs == 1 else judges[index])
                rows = []

    def _error_of_tables(self, layer: ConvLayer, plan: LayerPlan, inputs: Activations) -> float:
        """Returns the error of the layer's result on the runs that judge, as the kernels compute it, integers and all.

        Rounding is no part of what is fitted, but of what comes out. A quantised layer's result has its limits, too.
        """
        tensor = layer.output if layer.spec.is_quantised else layer.linear_output
        part = self._work.alone(layer, activated=layer.spec.is_quantised)
        model = apply_plan(part, {layer.name: plan}, keep_order=True).model
        label, difference = f"layer '{layer.name}'", Difference()
        session = open_session(model, processors(), label, keeps_memory=False)
        for index, (x,) in enumerate(inputs):
            if not self._judges(index, inputs):
                continue
            (y,) = run_session(session, [tensor], {layer.input: x}, label)
            target = layer.representable(self._targets[layer.name][index].array)
            found = pixels_at(lifted(layer.output_values(y)), self._places(layer, index))
            usable = usable_rows(target) & usable_rows(found)
            difference.add(target[usable], found[usable])
        return difference.rel_error

    def _every(self, layer: ConvLayer, draft: bool) -> int:
        """Returns in how many rows one is fitted to."""
        columns, effort = layer.spec.columns, self._effort
        rows = min(max(int(effort.draft_products / columns**2), columns), DRAFT_ROWS)
        return max(1, reconstruction_rows(columns, effort.products) // rows) if draft else 1

    def _judges(self, run: int, inputs: Activations) -> bool:
        """Whether a run is held back from the fit, to judge it: some of the last ones."""
        return run >= len(inputs) - max(1, len(inputs) // CHECKED_SHARE)

    def _places(self, layer: ConvLayer, run: int) -> Places:
        """Returns the output pixels of a run that reconstruction looks at: the same ones every time."""
        runs, products = len(self._feeds), self._effort.products
        return places_of_run(layer.name, layer.spec, run, runs, self._seed, products)


def _weights(layer: ConvLayer, weight: Floats, bias: Floats) -> LayerWeights:
    return LayerWeights(weight.reshape(layer.spec.weight_shape), bias)
