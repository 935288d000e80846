"""The kernels of scope static: the reference's results bit for bit, however they run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, note, settings

from tests.comparison import assert_close
from tests.custom_ops.cases import Case, static_cases
from tests.running import run_kernels, run_reference

quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(case=static_cases())
def test_fused_has_the_reference_s_bits(case: Case) -> None:
    note(repr(case))
    x = case.data()[0]
    with np.errstate(invalid="ignore"):
        reference = run_reference(case.model("fused"), x)
    np.testing.assert_array_equal(run_kernels(case.model("fused"), x), reference, err_msg=repr(case))
    other = replace(case, keep_tables=not case.keep_tables).model("fused")
    np.testing.assert_array_equal(run_kernels(other, x, threads=3), reference, err_msg="the other keep_tables")


@quick
@given(case=static_cases(tables=["float"]))
def test_staged_equals_the_reference(case: Case) -> None:
    note(repr(case))
    x = case.data()[0]
    with np.errstate(invalid="ignore"):
        reference = run_reference(case.model("staged"), x)
    assert_close(run_kernels(case.model("staged"), x), reference, what=repr(case))


def test_sessions_come_and_go_while_tables_are_made() -> None:
    """Tables are made by threads of the library, which ONNX Runtime unloads with the last session.

    In a process of its own, where nothing else keeps the library.
    """
    code = (
        "from tests.custom_ops.cases import Case\n"
        "from tests.running import make_session\n"
        "from reuse_compiler.reuse.geometry import ConvSpec\n"
        "spec = ConvSpec(2, 3, 2, 4, 20, (2, 2), pads=(1, 0, 0, 0))\n"
        "model = Case(spec, 'patch', 7, 'sign', 1, scope='static', table='int8').model('fused')\n"
        "for _ in range(100): make_session(model)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
