"""Tests of this folder run on a GPU; without one, or without what it needs, they skip and say what is missing.

With REUSE_REQUIRE_CUDA=1 in the environment, as the GPU check sets it, that is an error.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from reuse_compiler.errors import LibraryError
from reuse_compiler.reuse.geometry import ConvGeometry
from tests.cuda.running import cuda_session
from tests.cuda.stopping import pytest_runtest_makereport
from tests.custom_ops.cases import Case

__all__ = ["pytest_runtest_makereport"]

HERE = Path(__file__).parent
EXAMPLES = int(os.environ.get("REUSE_CUDA_EXAMPLES", "60"))
"""Cases per test; the GPU check takes fewer."""

# Minutes on a GPU are few: a failing case is reported as it was found, and is the same one in the next run.
settings.register_profile(
    "cuda",
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def missing() -> str | None:
    """Returns why no model runs on CUDA here, or None."""
    case = Case(ConvGeometry(1, 4, 4, 4, 4, (1, 1)), "channel", 4, "exact", 1)
    try:
        cuda_session(case.model("fused")).run(None, {"X": case.data()[0]})
    except LibraryError as error:
        return str(error)
    except Exception as error:
        return f"onnxruntime's CUDA provider fails: {error}"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    own = [item for item in items if HERE in item.path.parents]
    reason = missing() if own else None
    if reason is not None and os.environ.get("REUSE_REQUIRE_CUDA") == "1":
        raise pytest.UsageError(f"no test of CUDA can run: {reason}")
    if reason is not None:
        for item in own:
            item.add_marker(pytest.mark.skip(reason=reason))
