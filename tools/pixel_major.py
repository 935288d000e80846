"""Times chains of convolutions dense, with reuse in NCHW, and with reuse and pixel-major data between the layers.

`python -m tools.pixel_major` prints the table of docs/performance.md, "Layout between neighbouring layers".
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from statistics import median

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reuse_compiler.benchmark.arrangement import pixel_labels
from reuse_compiler.benchmark.trees import fit_tree
from reuse_compiler.fitting.vectors import neuron_vectors
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from reuse_compiler.reuse.config import LayerSettings, ReuseConfig
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from reuse_compiler.runtime import statistics
from reuse_compiler.verification.runnable import exposed
from reuse_compiler.verification.sessions import BoundRun, open_session
from reuse_compiler.verification.timing import interleave
from tools.pages import row, table

Floats = NDArray[np.float32]
SAMPLES = 4096
"""Vectors of a block that its tree is fitted to."""
WARM_UPS = 2


@dataclass(frozen=True)
class Chain:
    """3x3 convolutions with Relu, `between` which there is nothing, "max" or "average" pooling 2x2."""

    channels: int
    size: int
    layers: int
    between: str
    sub_vector_length: int
    num_hashes: int
    table: str

    def __str__(self) -> str:
        pools = {"": "conv", "max": "MaxPool conv", "average": "AveragePool conv"}[self.between]
        shape = f"{self.channels} channels, {self.size}x{self.size}"
        return f"{shape}: conv {' '.join([pools] * (self.layers - 1))}, L={self.sub_vector_length} {self.table}"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, self.channels, self.size, self.size

    def dense(self) -> onnx.ModelProto:
        """Returns the model without reuse: x -> (Conv, Relu, pool)* -> y."""
        rng = np.random.default_rng(1)
        nodes, weights, source = [], [], "x"
        for index in range(self.layers):
            weight = rng.standard_normal((self.channels, self.channels, 3, 3)) / np.sqrt(4.5 * self.channels)
            weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w{index}"))
            nodes.append(helper.make_node("Conv", [source, f"w{index}"], [f"c{index}"], f"conv{index}", pads=[1] * 4))
            last = index == self.layers - 1
            source = "y" if last else f"r{index}"
            nodes.append(helper.make_node("Relu", [f"c{index}"], [source]))
            if self.between and not last:
                kind = {"max": "MaxPool", "average": "AveragePool"}[self.between]
                pool = helper.make_node(kind, [source], [f"p{index}"], kernel_shape=[2, 2], strides=[2, 2])
                nodes.append(pool)
                source = f"p{index}"
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        graph = helper.make_graph(nodes, "chain", [x], [y], weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def image(chain: Chain) -> Floats:
    """Returns an input whose vectors repeat in neighbouring squares, with a little noise."""
    rng = np.random.default_rng(2)
    spec = ConvSpec(1, chain.channels, chain.size, chain.size, chain.channels, (3, 3), pads=(1, 1, 1, 1))
    count = chain.size * chain.size // 16
    palette = np.maximum(rng.standard_normal((count, chain.channels)), 0)
    pixels = palette[pixel_labels(rng, spec, count, "local")]
    pixels = pixels + 0.05 * rng.standard_normal(pixels.shape)
    return np.ascontiguousarray(pixels.T.reshape(chain.shape), np.float32)


def layer_inputs(model: onnx.ModelProto, chain: Chain, x: Floats) -> list[Floats]:
    """Returns the input of each convolution."""
    names = [node.input[0] for node in model.graph.node if node.op_type == "Conv"][1:]
    with exposed(model, names):
        session = open_session(model, 1, "the chain", plain=True)
    return [x, *session.run(names, {"x": x})]


def fit(chain: Chain, x: Floats) -> HashParameters:
    """Fits a tree per block to vectors of a layer's input."""
    spec = ConvSpec(1, chain.channels, x.shape[2], x.shape[3], chain.channels, (3, 3), pads=(1, 1, 1, 1))
    rng = np.random.default_rng(3)
    trees = []
    for vectors in neuron_vectors(x, Blocking(spec, "channel", chain.sub_vector_length)):
        sample = rng.choice(vectors, min(SAMPLES, len(vectors)), replace=False)
        trees.append(fit_tree(np.unique(sample, axis=0), chain.num_hashes))
    coordinates, thresholds = (np.stack(arrays) for arrays in zip(*trees, strict=True))
    return HashParameters(coordinates=coordinates, thresholds=thresholds)


def measure(chain: Chain, repeats: int) -> None:
    """Prints one line of the table: medians on one thread, their ratio, and that of the least times."""
    model, x = chain.dense(), image(chain)
    inputs = layer_inputs(model, chain, x)
    settings = LayerSettings.model_validate(
        {"family": "learned", "layout": "channel", "L": chain.sub_vector_length, "H": chain.num_hashes}
        | {"table": chain.table}
    )
    names = [f"conv{index}" for index in range(chain.layers)]
    config = ReuseConfig(layers=dict.fromkeys(names, settings))
    fitted = Fitted({name: fit(chain, own) for name, own in zip(names, inputs, strict=True)})
    models = {"dense": model}
    for order in ("nchw", "nhwc"):
        options = CompileOptions.model_validate({"data_order": order})
        models[order] = lower(model, options, config, fitted).model
    shape = (1, chain.channels, *inputs[-1].shape[2:])
    runs = {
        name: BoundRun(open_session(each, 1, name, plain=name == "dense"), x, shape) for name, each in models.items()
    }
    interleave(runs, WARM_UPS)
    samples = interleave(runs, repeats, clock=time.process_time)  # which other programs disturb less
    assert np.array_equal(runs["nchw"].output, runs["nhwc"].output), "the orders' results differ"
    dense, nchw, nhwc = (median(samples[name]) for name in ("dense", "nchw", "nhwc"))
    least = min(samples["nchw"]) / min(samples["nhwc"])
    ratios = [node.remaining_ratio or 0.0 for node in statistics(runs["nhwc"].session) if node.op == "ReuseConv"]
    r_c = f"{min(ratios):.2f}-{max(ratios):.2f}"
    times = (f"{dense:.1f}", f"{nchw:.1f}", f"{nhwc:.1f}", f"{nchw / nhwc:.2f}", f"{least:.2f}")
    print(row([str(chain), r_c, *times]), flush=True)


CHAINS = [
    Chain(channels, size, layers, between, length, bits, table)
    for channels, size in ((64, 224), (128, 112))
    for length, bits, table in ((64, 11, "float"), (8, 8, "int8"))
    for layers, between in ((2, ""), (3, ""), (2, "max"), (3, "max"))
]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=25)
    arguments = parser.parse_args()
    print(table(["chain", "r_c", "dense ms", "NCHW ms", "pixel-major ms", "gain", "of the least"], []), flush=True)
    for chain in CHAINS:
        measure(chain, arguments.repeats)


if __name__ == "__main__":
    main()
