"""What "as good as the original" means: the metric that the user names, or that suits the model, and its check."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from reuse_compiler.calibration.labels import Labels
from reuse_compiler.calibration.metric_kinds import (
    PYTHON,
    Accumulator,
    Agreement,
    Cosine,
    IoU,
    Kl,
    Metric,
    Mse,
    Psnr,
    Python,
    Top1,
)
from reuse_compiler.calibration.outputs import OutputInfo, Outputs, model_outputs
from reuse_compiler.calibration.target import Target, check_wish
from reuse_compiler.calibration.user_code import describe_exception
from reuse_compiler.errors import ConfigError, ReuseError

__all__ = [
    "Accumulator",
    "Metric",
    "OutputInfo",
    "Outputs",
    "Target",
    "check_metric",
    "check_wish",
    "make_metric",
    "model_outputs",
]

NAMES = ("top1", "agreement", "iou", "psnr", "cosine", "mse", "kl", "python:module:function")
DEFAULT_THRESHOLD = 0.4
"""Of `iou`: what counts as inside a region; the text threshold of CRAFT's authors."""


def make_metric(spec: str | None, outputs: Sequence[OutputInfo], has_labels: bool) -> Metric:
    """Returns the metric that the user named, or the one that suits the model.

    `spec` is one of NAMES, some with arguments: `iou:0.5,1` (threshold, channel), and for all but Python functions
    `output=NAME`, as in `psnr:output=edges`. None means `top1` with labels, else `agreement` for a single output
    `[N, classes]`, else `cosine`. Raises ConfigError if the model's outputs or the labels do not suit it.
    """
    if spec is None:
        floats = [output for output in outputs if output.is_float]
        spec = "top1" if has_labels else "agreement" if len(floats) == 1 and floats[0].has_classes else "cosine"
    if spec.startswith(PYTHON):
        return Python(spec.removeprefix(PYTHON))
    name, _, rest = spec.partition(":")
    arguments = _parse_arguments(spec, rest, ("threshold", "index") if name == "iou" else ())
    chosen = _Chosen(spec, outputs, arguments.get("output"))
    match name:
        case "top1":
            if not has_labels:
                raise ConfigError("the metric top1 needs the right classes: give --labels, or take agreement")
            return Top1(chosen.with_classes())
        case "agreement":
            return Agreement(chosen.with_classes())
        case "kl":
            return Kl(chosen.with_classes())
        case "iou":
            threshold = _number(spec, arguments.get("threshold", str(DEFAULT_THRESHOLD)))
            return IoU(chosen.single(), threshold, _index(spec, arguments.get("index")))
        case "psnr":
            return Psnr(chosen.floats())
        case "cosine":
            return Cosine(chosen.floats())
        case "mse":
            return Mse(chosen.floats())
    raise ConfigError(f"there is no metric '{spec}'; there are {', '.join(NAMES)}")


def check_metric(metric: Metric, outputs: Outputs, labels: Labels | None) -> float:
    """Tries a metric on a run of the original against itself and returns its value; to be called before long work.

    Raises a ReuseError that names the metric if it raises, or if its value is NaN.
    """
    try:
        accumulator = metric.start()
        accumulator.add(outputs, outputs, labels)
        value = accumulator.value()
    except ReuseError:
        raise
    except Exception as error:
        shapes = {name: list(array.shape) for name, array in outputs.items()}
        raise ConfigError(
            f"the metric {metric.name} does not suit outputs of the shapes {shapes}: {describe_exception(error)}"
        ) from error
    if math.isnan(value):
        raise ConfigError(f"the metric {metric.name} of the original's outputs against themselves is NaN")
    return value


class _Chosen:
    """The outputs that a metric is about."""

    def __init__(self, spec: str, outputs: Sequence[OutputInfo], name: str | None) -> None:
        self._spec, self._all = spec, outputs
        self._outputs = [output for output in outputs if output.is_float and name in (None, output.name)]
        if not self._outputs:
            what = "no output of floating point numbers" if name is None else f"no such output '{name}'"
            raise self._error(f"finds {what} in the model")

    def floats(self) -> list[str]:
        return [output.name for output in self._outputs]

    def single(self) -> str:
        if len(self._outputs) > 1:
            raise self._error(f"is about one output: say which, as in {self._example()}")
        return self._outputs[0].name

    def with_classes(self) -> str:
        """The output whose axis 1 are classes: the only one, or the only one of that form."""
        if len(self._outputs) > 1:
            candidates = [output for output in self._outputs if output.has_classes]
            self._outputs = candidates if len(candidates) == 1 else self._outputs
        name = self.single()
        dims = self._outputs[0].dims
        if dims is not None and (len(dims) < 2 or (self._spec.startswith("top1") and not self._outputs[0].has_classes)):
            raise self._error("needs an output [N, classes]")
        return name

    def _example(self) -> str:
        return f"{self._spec}{',' if ':' in self._spec else ':'}output={self._outputs[0].name}"

    def _error(self, message: str) -> ConfigError:
        return ConfigError(f"the metric {self._spec} {message}; the outputs are {', '.join(map(str, self._all))}")


def _parse_arguments(spec: str, text: str, positional: Sequence[str]) -> Mapping[str, str]:
    """Reads `0.5,1` or `threshold=0.5,output=heat`; an output's name reaches to the end, commas and all."""
    arguments: dict[str, str] = {}
    text, marker, output = text.partition("output=")
    if marker:
        arguments["output"] = output
    for place, part in enumerate(text.removesuffix(",").split(",") if text.removesuffix(",") else []):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = positional[place] if place < len(positional) else "", part
        if key not in positional or key in arguments:
            allowed = [f"{name}=..." for name in (*positional, "output")]
            raise ConfigError(f"the metric {spec}: '{part}' is no argument of it; there are {', '.join(allowed)}")
        arguments[key] = value
    return {key: value for key, value in arguments.items() if value}


def _number(spec: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"the metric {spec}: '{text}' is not a number")
    return number


def _index(spec: str, text: str | None) -> int | None:
    if text is not None and not text.isdecimal():
        raise ConfigError(f"the metric {spec}: '{text}' is not the number of a channel (0, 1, ...)")
    return None if text is None else int(text)
