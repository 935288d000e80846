"""A trained model as a plain ONNX file, with the configuration by which `reuse-compile` computes what training did."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from reuse_compiler.configuration import configuration_of, create_configuration, parameters_path
from reuse_compiler.errors import ModelError
from reuse_compiler.graph.files import FileTransaction
from reuse_compiler.graph.save import check_output
from reuse_compiler.paths import AnyPath
from reuse_compiler.training.conversion import convolutions, reuse_layers, revert
from reuse_compiler.training.evaluation import watching

OPSET = 17


def export_onnx(
    model: nn.Module,
    path: AnyPath,
    example: Tensor,
    *,
    input_names: Sequence[str] = ("x",),
    output_names: Sequence[str] = ("y",),
    overwrite: bool = False,
) -> Path:
    """Writes `path` (its batch is dynamic) and beside it MODEL.reuse.json (and .npz); returns the latter's path.

    The ONNX file has the model in evaluation mode, without reuse; batch normalisation is folded by the exporter. The
    configuration has family, L, H and hash parameters of each layer whose reuse is on, under the name of the PyTorch
    module, which its Conv node bears. `reuse-compile path --config MODEL.reuse.json` then computes what `model.eval()`
    does, on the same batches. Cluster reuse across batches is a matter of training: the result clusters by batch.
    Raises ModelError for a model whose Conv nodes cannot be told apart, OutputError for places that cannot be written.
    """
    path = Path(path)
    config = configuration_of(path)
    for place in (path, config, parameters_path(config)):
        check_output(place, overwrite)
    layers = {name: layer for name, layer in reuse_layers(model).items() if layer.reuse}
    plain = copy.deepcopy(model).eval().cpu()
    revert(plain)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        executed = _export(plain, file, example.cpu(), input_names, output_names)
        exported = onnx.load(file)
    _name_convolutions(exported, plain, executed)
    plan = {name: layer.plan for name, layer in layers.items()}
    with FileTransaction(overwrite) as files:  # all of them or none
        with files.create(path) as stream:
            stream.write(exported.SerializeToString())
        create_configuration(files, plan, 0, config)
        files.publish()
    return config


def _export(
    plain: nn.Module, file: Path, example: Tensor, input_names: Sequence[str], output_names: Sequence[str]
) -> list[str]:
    """Exports, and returns the names of the convolutions in the order in which they were executed."""
    executed: list[str] = []
    with watching(convolutions(plain), lambda name, *_: executed.append(name)), torch.no_grad():
        plain(example)
    axes = {name: {0: "N"} for name in (*input_names, *output_names)}
    with warnings.catch_warnings():
        # The exporter by tracing needs no further package; it announces its successor.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            plain,
            (example,),
            str(file),
            opset_version=OPSET,
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_axes=axes,
            dynamo=False,
        )
    return executed


def _name_convolutions(exported: onnx.ModelProto, plain: nn.Module, executed: Sequence[str]) -> None:
    """Gives the Conv nodes the names of their modules; nodes stand in the order of execution."""
    nodes = [node for node in exported.graph.node if node.op_type == "Conv"]
    weights = {tensor.name: tuple(tensor.dims) for tensor in exported.graph.initializer}
    modules = [plain.get_submodule(name) for name in executed]
    shapes = [tuple(module.weight.shape) for module in modules if isinstance(module, nn.Conv2d)]
    if len(set(executed)) < len(executed):
        twice = next(name for name in executed if executed.count(name) > 1)
        raise ModelError(f"convolution '{twice}' is used more than once: a configuration can name only one Conv node")
    if [weights.get(node.input[1]) for node in nodes] != shapes:
        raise ModelError(
            f"the exporter wrote {len(nodes)} Conv nodes, the model executes {len(executed)} convolutions; they do not "
            "match: convolutions must be Conv2d modules with constant weights"
        )
    taken = {node.name for node in exported.graph.node if node.op_type != "Conv"}
    for node, name in zip(nodes, executed, strict=True):
        if name in taken:
            raise ModelError(
                f"another node of the exported model is named '{name}' like a convolution: rename the module"
            )
        node.name = name
