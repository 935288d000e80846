"""Measures layers or networks, dense and with reuse, and writes a line of JSON for each setting as soon as it is done.

    python -m tools.gpu_check.measure layers|networks --results FOLDER [--seconds N] [--smoke]

What the file of results has already is left out. With --smoke all layers and CifarNet run once on the CPU, at batch 1:
whether models can be built and run. How errors are found is in outputs.py; again.py runs this, again after a crash.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from models import builders, packaged
from reuse_compiler.benchmark.case import ConvCase
from reuse_compiler.benchmark.inputs import LayerInput, build_input
from reuse_compiler.benchmark.layer import dense_model, reuse_model
from reuse_compiler.runtime import Provider, reset_statistics, running_on, statistics
from reuse_compiler.runtime.library import has_cuda
from reuse_compiler.verification.sessions import BoundRun, open_session
from reuse_compiler.verification.timing import interleave
from tools.gpu_check.models import compile_layers, convolutions, in_half, layer_case, layer_order
from tools.gpu_check.outputs import ModeName, Outputs
from tools.gpu_check.results import LOST, GivingUpError, LostError, Results, lines_path, read_arguments

WARM_UPS, REPEATS = 4, 15
COMPARED_BATCH = 16
"""Layers at larger batches are timed only: copying their outputs takes longer than all runs, and a smaller one shows
the error of the same layer with the same settings."""
TF32_VARIABLE = "REUSE_CUDA_TF32"
MOST_BYTES = 12 * 2**30
"""Inputs and outputs of a case together; larger ones are left out."""
GAIN = 1.1
"""A layer of a network gets reuse where that is so many times as fast as the dense layer, measured alone."""
NETWORK_IMAGES = {"cifarnet": (1, 16, 128), "vgg19": (1, 16), "hed": (1,)}


@dataclass(frozen=True)
class Mode:
    """How both forms run."""

    half: bool = False
    tf32: bool = False
    graph: bool = False

    @property
    def name(self) -> ModeName:
        return "float16" if self.half else "TF32" if self.tf32 else "float32"

    def provider(self, smoke: bool) -> Provider:
        return Provider("cpu") if smoke else Provider("cuda", tf32=self.tf32, cuda_graph=self.graph)

    @contextmanager
    def running(self, smoke: bool) -> Iterator[None]:
        """Has sessions run in this mode: told by the provider's option, and the operators by their variable, too."""
        with running_on(self.provider(smoke)), variable(TF32_VARIABLE, str(int(self.tf32))):
            yield

    def as_dict(self) -> dict[str, Any]:
        told = f"use_tf32={int(self.tf32)}, {TF32_VARIABLE}={int(self.tf32)}"
        element = "float16" if self.half else "float32"
        return {"element": element, "tf32": self.tf32, "graph": self.graph, "told": told}


ALL_MODES = [
    Mode(half, tf32, graph) for half, tf32 in ((False, False), (False, True), (True, True)) for graph in (False, True)
]
FEW_MODES = [mode for mode in ALL_MODES if not mode.graph]


def smoke_modes() -> list[Mode]:
    """The modes that a CPU has; a library built without CUDA kernels knows no float16."""
    return [Mode(), Mode(half=True)] if has_cuda() else [Mode()]


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Sets a variable of the environment for a while: in this program one thread measures."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def bind(
    model: onnx.ModelProto,
    x: NDArray[Any],
    shape: tuple[int, ...],
    beside: BoundRun | None = None,
    stages_timed: bool = False,
) -> BoundRun:
    """Opens a model for runs with tensors on the provider's device; `beside` another run, with its very tensors."""
    plain = all(node.domain in ("", "ai.onnx") for node in model.graph.node)
    threads = os.cpu_count() or 1
    return BoundRun(open_session(model, threads, "the model", plain=plain, stages_timed=stages_timed), x, shape, beside)


def time_both(dense: BoundRun, fused: BoundRun, repeats: int) -> dict[str, Any]:
    """Returns medians of runs in turn."""
    runs = {"dense": dense, "fused": fused}
    interleave(runs, WARM_UPS if repeats > 1 else 1)
    samples = interleave(runs, repeats)
    dense_ms, fused_ms = median(samples["dense"]), median(samples["fused"])
    found: dict[str, Any] = {"dense_ms": dense_ms, "fused_ms": fused_ms, "speedup": dense_ms / fused_ms}
    return found | {"dense_least_ms": min(samples["dense"]), "fused_least_ms": min(samples["fused"])}


def stages_of(
    model: onnx.ModelProto, x: NDArray[Any], shape: tuple[int, ...], repeats: int, beside: BoundRun | None = None
) -> dict[str, dict[str, float]]:
    """Returns the milliseconds per stage and r_c of every reuse node, from runs that wait for each stage."""
    run = bind(model, x, shape, beside, stages_timed=True)
    run()
    reset_statistics(run.session)
    for _ in range(repeats):
        run()
    return {
        node.node: {stage: 1e3 * s / node.runs for stage, s in node.seconds.model_dump().items()}
        | {
            "r_c": node.remaining_ratio or 0.0,
            "guarded": node.guarded / node.runs,
            "scratch": float(node.scratch_bytes),
        }
        for node in statistics(run.session)
        if node.runs
    }


def measure_layer(
    case: ConvCase, data: LayerInput, mode: Mode, repeats: int, smoke: bool, outputs: Outputs | None
) -> dict[str, Any]:
    """Measures a layer in one mode, and its error if there are `outputs` to put the results beside."""
    dense, shape = dense_model(case), case.spec.output_shape
    fused, x = reuse_model(dense, case, data, "fused"), data.x
    if mode.half:
        dense, fused, x = in_half(dense), in_half(fused), x.astype(np.float16)
    with mode.running(smoke):
        run = bind(dense, x, shape)
        # Outputs that nobody compares may lie in the same memory, which is large.
        other = bind(fused, x, shape, None if outputs else run)
        found = time_both(run, other, repeats)
        ran = statistics(other.session)[0].tf32  # what the node itself says
        static = case.scope == "static"  # without products that TF32 could round
        if ran is not (None if smoke or mode.half or static else mode.tf32):
            raise RuntimeError(f"told {mode.as_dict()['told']}, the node says that it ran with TF32: {ran}")
        if outputs:
            found |= outputs.compare(mode.name, run.output, other.output)
            if static:
                found.get("differs_from_float32", {}).pop("reuse", None)
        if not mode.graph:
            stages = stages_of(fused, x, shape, max(1, repeats // 3), beside=other)["conv"]
            found |= {"r_c": stages.pop("r_c"), "guarded": stages.pop("guarded"), "scratch": stages.pop("scratch")}
            found["stages_ms"] = stages
    return found


def measure_layers(results: Results, smoke: bool) -> None:
    """Measures all layers, the most wanted first."""
    order = [(goal, 1) for goal in dict.fromkeys(goal for goal, _ in layer_order())] if smoke else layer_order()
    for goal, batch in order:
        case = layer_case(goal, batch)
        what = {"layer": f"{goal.layer}, {goal.setting}", "batch": batch}
        size = 4 * (int(np.prod(case.spec.input_shape)) + int(np.prod(case.spec.output_shape)))
        if size > MOST_BYTES:
            results.add(**what, skipped=f"{size / 2**30:.0f} GiB of input and output")
            continue
        # A graph saves launches, which cost most where there is least to compute.
        modes = smoke_modes() if smoke else ALL_MODES if batch == 1 or order.index((goal, batch)) < 3 else FEW_MODES
        if smoke and case.scope == "static":
            # On a CPU onnxruntime turns float16 to float32 by nodes, whose results are no constants.
            modes = [mode for mode in modes if not mode.half]
        modes = [mode for mode in modes if not results.has(what | mode.as_dict())]
        data: list[LayerInput] = []
        if not modes:
            continue

        def build(case: ConvCase = case, data: list[LayerInput] = data) -> dict[str, Any]:
            data.append(build_input(case))
            return {"clusters": sum(data[0].clusters), "H": data[0].num_hashes, "family": case.family}

        results.attempt(what, build)
        if not data:
            continue
        outputs = Outputs() if batch <= COMPARED_BATCH else None
        for mode in modes:
            repeats = 1 if smoke else REPEATS
            results.attempt(
                what | mode.as_dict(),
                partial(measure_layer, case, data[0], mode, repeats, smoke, outputs),
            )


def flat_images(batch: int, size: int) -> NDArray[np.float32]:
    """Returns images [N, 3, size, size] of flat squares, as pages and drawings have them."""
    rng = np.random.default_rng(0)
    side = 16
    squares = rng.standard_normal((batch, 3, -(-size // side), -(-size // side))).astype(np.float32)
    return np.ascontiguousarray(squares.repeat(side, axis=2).repeat(side, axis=3)[:, :, :size, :size])


def networks(smoke: bool) -> Iterator[tuple[str, onnx.ModelProto, int, int]]:
    """Yields name, model, batch size and image size of what is there; on a CPU the others take minutes."""
    for name, batches in NETWORK_IMAGES.items():
        if smoke and name != "cifarnet":
            continue
        for batch in batches[:1] if smoke else batches:
            if name == "cifarnet":
                yield name, builders.trained(name), batch, 32
            elif name == "vgg19":
                yield name, builders.vgg19(), batch, 224
            elif (path := packaged.REGISTRY[name].cached_path()).is_file():
                yield name, onnx.load(path), batch, 512


def measure_network(
    model: onnx.ModelProto, x: NDArray[np.float32], mode: Mode, repeats: int, smoke: bool, outputs: Outputs
) -> dict[str, Any]:
    """Compiles a network with lossless reuse in the layers that gain in this mode, and measures it."""
    name = model.graph.input[0].name
    bound = {name: x.shape}
    own = in_half if mode.half else (lambda each: each)
    values = x.astype(np.float16) if mode.half else x
    whole = compile_layers(model, [], bound)
    with mode.running(smoke):
        opened = open_session(own(model), os.cpu_count() or 1, "the network", plain=True)
        shape = tuple(opened.run(None, {name: values})[0].shape)
        del opened
        stages = stages_of(own(whole), values, shape, max(1, repeats // 5))
        dense = {layer: layer_ms(own(alone), repeats) for layer, alone in convolutions(model, bound).items()}
        reuse = {
            layer: sum(ms for stage, ms in of.items() if stage in ("hash", "cluster", "gemm", "gather"))
            for layer, of in stages.items()
        }
        declined = [layer for layer, ms in dense.items() if layer not in reuse or ms < GAIN * reuse[layer]]
        compiled = compile_layers(model, declined, bound) if len(declined) < len(dense) else model
        runs = bind(own(model), values, shape), bind(own(compiled), values, shape)
        found = time_both(*runs, repeats) | outputs.compare(mode.name, runs[0].output, runs[1].output)
    layers = {
        layer: {"dense_ms": ms, "reuse_ms": reuse.get(layer), "r_c": stages.get(layer, {}).get("r_c")}
        for layer, ms in dense.items()
    }
    return found | {"layers_with_reuse": len(dense) - len(declined), "layers": layers}


def layer_ms(model: onnx.ModelProto, repeats: int) -> float:
    """Returns the median time of a layer alone, on random numbers."""
    first, last = model.graph.input[0].type.tensor_type, model.graph.output[0].type.tensor_type
    shapes = [tuple(dim.dim_value for dim in each.shape.dim) for each in (first, last)]
    element = np.float16 if first.elem_type == onnx.TensorProto.FLOAT16 else np.float32
    x = np.random.default_rng(0).standard_normal(shapes[0], dtype=np.float32).astype(element)
    run = bind(model, x, shapes[1])
    interleave({"dense": run}, 2)
    return median(interleave({"dense": run}, max(1, repeats // 3))["dense"])


def measure_networks(results: Results, smoke: bool) -> None:
    """Measures all networks that are there."""
    for name, model, batch, size in networks(smoke):
        x, outputs = flat_images(batch, size), Outputs()
        for mode in smoke_modes() if smoke else FEW_MODES:
            what = {"network": name, "batch": batch} | mode.as_dict()
            if not results.has(what):
                repeats = 1 if smoke else REPEATS
                results.attempt(what, partial(measure_network, model, x, mode, repeats, smoke, outputs))


def main() -> int:
    """Measures what the command line says; returns 1 if anything failed, LOST if the GPU is lost to this process."""
    arguments = read_arguments(__doc__)
    results = Results(lines_path(arguments), arguments.seconds)
    try:
        {"layers": measure_layers, "networks": measure_networks}[arguments.what](results, arguments.smoke)
    except GivingUpError as reason:
        print(f"nothing more is measured: {reason}", flush=True)
    except LostError as reason:
        print(f"nothing more is measured in this process: {reason}", flush=True)
        return LOST
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
