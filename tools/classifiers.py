"""What the forms of a classifier are worth: their classes of held-out images, and their times in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import BaseModel

from reuse_compiler.verification.sessions import open_session, runner
from reuse_compiler.verification.timing import Turns

BATCH = 64


class Form(BaseModel):
    """A form of the network, on images that nothing was fitted to."""

    name: str
    top1: float
    median_ms: float
    """Of a run of a batch."""


def judge(
    forms: Mapping[str, onnx.ModelProto], images: NDArray[np.float32], labels: NDArray[np.int64], progress: Any
) -> list[Form]:
    """Returns each form's top-1, and its time in turn with the others."""
    name = forms["original"].graph.input[0].name
    turns = Turns({form: runner(open_session(model, 1, form), None, form) for form, model in forms.items()})
    right = dict.fromkeys(forms, 0)
    count = len(images) // BATCH
    for index in range(count):
        progress("running the forms", index, count)
        own = slice(index * BATCH, (index + 1) * BATCH)
        for form, (scores, *_) in turns.round({name: images[own]}).items():
            right[form] += int((scores.argmax(axis=1) == labels[own]).sum())
    return [Form(name=form, top1=right[form] / (count * BATCH), median_ms=turns.median_ms(form)) for form in forms]
