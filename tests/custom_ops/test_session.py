"""The kernels of scope session over several runs, against the reference that keeps its clusters likewise."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from reuse_compiler.reference import REFERENCE_OPS
from tests.comparison import assert_close
from tests.custom_ops.cases import Case, session_cases
from tests.running import make_session

quick = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(case=session_cases(), lowering=st.sampled_from(["fused", "staged"]), threads=st.sampled_from([1, 3]))
def test_every_run_equals_the_reference(case: Case, lowering: str, threads: int) -> None:
    note(repr(case))
    model = case.model(lowering)
    session, reference = make_session(model, threads), ReferenceEvaluator(model, new_ops=REFERENCE_OPS)
    for index, x in enumerate(case.inputs(4)):
        with np.errstate(invalid="ignore"):
            wanted: Any = reference.run(None, {"X": x})
        assert_close(session.run(None, {"X": x})[0], wanted[0], what=f"{lowering}, run {index}, {case}")
