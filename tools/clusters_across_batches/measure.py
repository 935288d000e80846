"""R over batches from codes alone, and whole networks with and without cluster reuse in onnxruntime."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

import reuse_compiler
from models import builders, datasets, packaged, preprocessing
from models.datasets import RgbImage
from reuse_compiler.calibration.activations import Activations
from reuse_compiler.fitting.hashes import HashFitter, VectorSampler
from reuse_compiler.fitting.vectors import Floats, lifted
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.pipeline import apply_plan, find_layers
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reuse.config import FamilyName, LayerSettings, Scope, make_settings
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.plan import LayerPlan
from reuse_compiler.reuse.seeds import layer_generator
from reuse_compiler.runtime.clustering import ClusteringPlan, Clusters
from reuse_compiler.verification.sessions import open_session
from tools.clusters_across_batches.results import Comparison, LayerRates, NetworkRates

BATCHES = 20
FIT_VECTORS = 16_384
FAMILIES_STUDIED: tuple[FamilyName, ...] = ("sign", "learned")
SIGN, LEARNED = (10, 10), (8, 8)
"""L and H: the training paper's best for conv2 of CifarNet, and what calibration often chooses."""
COMPARED = 20
"""Batches that accuracies are measured on."""


@dataclass(frozen=True)
class Network:
    """A network with its images; the first batch is what trees are fitted to, and no other."""

    name: str
    build: Callable[[], onnx.ModelProto]
    prepare: Callable[[Sequence[RgbImage]], Floats]
    archive: str
    batch: int
    size: int
    sign: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """L and H by layer where they are others than SIGN."""

    def inputs(self, batches: int) -> list[tuple[Floats, NDArray[np.int64]]]:
        """Returns prepared images and labels of so many batches."""
        photos, labels = datasets.images(self.archive, batches * self.batch)
        x = self.prepare(datasets.centre_crop(photos, self.size))
        return list(zip(np.split(x, batches), np.split(labels, batches), strict=True))


def _packaged(name: str, batch: int, size: int) -> Network:
    model = packaged.REGISTRY[name]
    return Network(
        name, lambda: onnx.load(packaged.load(name)), model.preprocessing, "imagenet_sample", batch, size
    )  # fmt: skip


def _cifar(name: str, sign: Mapping[str, tuple[int, int]]) -> Network:
    return Network(name, lambda: builders.trained(name), preprocessing.CIFAR10, "cifar10_test", 64, 32, sign)


COMPARED_IN = _cifar("cifarnet", {"conv1": (5, 15)})
NETWORKS = (COMPARED_IN, _cifar("cifar_vgg", {}), _packaged("squeezenet", 8, 224))


class KnownCodes:
    """The codes that earlier batches had, by block: those of the clusters that scope session keeps."""

    def __init__(self, blocks: int) -> None:
        self._codes = [np.zeros(0, np.int64)] * blocks

    def __len__(self) -> int:
        return sum(map(len, self._codes))

    def rate(self, clusters: Clusters) -> float:
        """Returns R of a batch, whose codes are known from then on."""
        known = 0
        for block, before in enumerate(self._codes):
            codes = clusters.codes(block)
            known += int(clusters.members(block)[np.isin(codes, before)].sum())
            self._codes[block] = np.union1d(before, codes)
        return known / clusters.ids.size


def plan_for(layer: ConvLayer, family: FamilyName, sizes: tuple[int, int], x: Floats, scope: Scope) -> LayerPlan:
    """Returns a layer's plan: the papers' random hyperplanes on rows, or trees on pixels that are fitted to `x`."""
    layout = "patch" if family == "sign" else "channel"
    width = layer.spec.columns if layout == "patch" else layer.spec.group_in_channels
    settings = make_settings(family=family, layout=layout, L=min(sizes[0], width), H=sizes[1], scope=scope)
    if not FAMILIES[family].needs_samples:
        blocks, generator = settings.blocking(layer.spec).num_blocks, layer_generator(0, layer.name)
        drawn = FAMILIES[family].random_parameters(
            generator, blocks, settings.sub_vector_length, settings.num_hashes
        )  # fmt: skip
        return LayerPlan(layer.spec, settings, drawn)
    sampler = VectorSampler(layer.name, layer.spec.on(x.shape), settings.layout, FIT_VECTORS, 1, 0)
    sampler.add(x)
    return HashFitter(sampler.sample(), layer.weights).plan(settings)


def clustering_of(plan: LayerPlan) -> ClusteringPlan:
    """Returns what gives the codes of a layer's input, as scope batch clusters it."""
    settings = plan.settings.model_copy(update={"scope": "batch"})
    return ClusteringPlan(settings.blocking(plan.spec), settings, plan.parameters, keep_codes=True)


def measure_rates(network: Network, batches: int = BATCHES, progress: ProgressCallback = silent) -> NetworkRates:
    """Measures all convolutions of a network; what is missing for it is said in the result."""
    said = f"{network.batch} images of {network.archive}, {network.size}x{network.size}"
    try:
        model, inputs = network.build(), network.inputs(batches + 1)
    except (datasets.DataMissingError, *packaged.LOAD_ERRORS) as error:
        return NetworkRates(network=network.name, images=said, layers=[], missing=str(error))
    name = model.graph.input[0].name
    layers = _layers(model, name, inputs[0][0].shape)
    given = {own.input for own in layers if own.input != name}
    tensors = list(dict.fromkeys(own.input for own in layers if own.input in given))
    plans: list[tuple[ConvLayer, LayerPlan]] = []
    found: list[tuple[ClusteringPlan, KnownCodes, list[float]]] = []
    activations = Activations(model, tensors, [{name: x} for x, _ in inputs], network.name)
    for index, (arrays, (image, _)) in enumerate(zip(activations, inputs, strict=True)):
        progress(f"batches of {network.name}", index, len(inputs))
        read = dict(zip(tensors, arrays, strict=True)) | {name: image}
        if not plans:
            plans = [
                (own, plan_for(own, family, _sizes(network, own, family), lifted(read[own.input]), "batch"))
                for family in FAMILIES_STUDIED
                for own in layers
            ]
            found = [(clustering_of(plan), KnownCodes(_blocks(plan)), []) for _, plan in plans]
            continue
        for (own, _), (clustering, known, rates) in zip(plans, found, strict=True):
            rates.append(round(known.rate(clustering.clusters(lifted(read[own.input]))), 4))
    return NetworkRates(
        network=network.name,
        images=said,
        layers=[
            LayerRates(
                layer=own.name,
                family=plan.settings.family,
                layout=plan.settings.layout,
                L=plan.settings.sub_vector_length,
                H=plan.settings.num_hashes,
                rates=rates,
                kept=len(known),
            )
            for (own, plan), (_, known, rates) in zip(plans, found, strict=True)
        ],
    )


def compare(network: Network, batches: int = COMPARED, progress: ProgressCallback = silent) -> list[Comparison]:
    """Runs a classifier with reuse in each of its layers and in all of them, with CR = 0 and 1, on one thread."""
    model, (fitted, *inputs) = network.build(), network.inputs(batches + 1)
    name = model.graph.input[0].name
    layers = {own.name: own for own in _layers(model, name, fitted[0].shape)}
    (reads,) = Activations(model, [own.input for own in list(layers.values())[1:]], [{name: fitted[0]}], network.name)
    read = dict(zip(layers, [fitted[0], *reads], strict=True))
    found: list[Comparison] = []
    for family in FAMILIES_STUDIED:
        for chosen in [*([own] for own in layers), list(layers)]:
            progress(f"{network.name}: {family} in {' and '.join(chosen)}", len(found), 0)
            plans = {
                scope: {
                    own: plan_for(layers[own], family, _sizes(network, layers[own], family), read[own], scope)
                    for own in chosen
                }
                for scope in ("batch", "session")
            }
            settings = [plan.settings for plan in plans["session"].values()]
            found.append(_compare(model, name, plans, settings, inputs))
    return found


def _compare(
    model: onnx.ModelProto,
    name: str,
    plans: Mapping[str, Mapping[str, LayerPlan]],
    settings: Sequence[LayerSettings],
    inputs: Sequence[tuple[Floats, NDArray[np.int64]]],
) -> Comparison:
    prepared = find_layers(model, {name: inputs[0][0].shape})
    models = [model, *(apply_plan(prepared, plan).model for plan in plans.values())]
    sessions = [open_session(own, 1, "the network") for own in models]
    hits, times = np.zeros(len(sessions)), []
    half = len(inputs) // 2
    before = (0, 0)
    for index, (x, labels) in enumerate(inputs):
        if index == half:
            before = _known(sessions[-1])
        took = []
        for own, session in enumerate(sessions):
            start = time.process_time()
            scores = session.run(None, {name: x})[0]
            took.append(time.process_time() - start)
            hits[own] += int((scores.argmax(1) == labels).sum())
        times.append(took)
    images = sum(len(labels) for _, labels in inputs)
    known, vectors = (late - early for late, early in zip(_known(sessions[-1]), before, strict=True))
    original, without, with_reuse = (float(own) / images for own in hits)
    ms = [1e3 * statistics.median(column) for column in zip(*times[half:], strict=True)]
    return Comparison(
        layers=" and ".join(plans["session"]),
        family=settings[0].family,
        L=", ".join(str(own.sub_vector_length) for own in settings),
        H=", ".join(str(own.num_hashes) for own in settings),
        images=images,
        top1=(original, without, with_reuse),
        ms=(ms[0], ms[1], ms[2]),
        rate=known / vectors,
    )


def _known(session: onnxruntime.InferenceSession) -> tuple[int, int]:
    """Returns vectors that took a kept cluster so far, and all vectors."""
    nodes = reuse_compiler.statistics(session)
    return sum(node.known for node in nodes), sum(node.vectors for node in nodes)


def _layers(model: onnx.ModelProto, name: str, shape: tuple[int, ...]) -> list[ConvLayer]:
    layers = find_layers(model, {name: shape}).convolutions.values()
    return [own for own in layers if own.in_main]


def _sizes(network: Network, layer: ConvLayer, family: FamilyName) -> tuple[int, int]:
    return network.sign.get(layer.name, SIGN) if family == "sign" else LEARNED


def _blocks(plan: LayerPlan) -> int:
    return plan.settings.blocking(plan.spec).num_blocks
