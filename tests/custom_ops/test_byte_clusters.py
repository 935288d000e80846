"""QLinearReuseConv with a hash and clusters of the batch or of the image: the reference's bytes, however it runs."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import reuse_compiler
from reuse_compiler.passes.add_function_bodies import add_function_bodies
from reuse_compiler.passes.lower_to_reuse import DOMAIN
from reuse_compiler.reuse.geometry import ConvSpec
from tests.comparison import relative_error
from tests.custom_ops.quantised_cases import ABSENT, HashedCase, QuantisedCase, quantised_cases, runtime_saturates
from tests.running import make_session, run_kernels, run_reference, run_with_isa

SPEC = ConvSpec(2, 24, 9, 37, 83, (3, 3), pads=(1, 1, 1, 1))
CASE = HashedCase(SPEC, "channel", 8, num_hashes=6, small_weights=runtime_saturates())


@st.composite
def hashed_cases(draw: st.DrawFn) -> HashedCase:
    own = draw(quantised_cases())
    hashes, rotated = draw(st.integers(1, 11)), draw(st.booleans())
    family = draw(st.sampled_from(["learned", "learned", "sign"]))
    channels = own.spec.group_in_channels
    others = {"layout": "channel", "sub_vector_length": draw(st.integers(1, channels))}
    return HashedCase(**{**vars(own), **others}, family=family, num_hashes=hashes, rotated=rotated)


@settings(max_examples=150, deadline=None)
@given(case=hashed_cases())
def test_kernel_has_the_reference_s_bytes(case: HashedCase) -> None:
    note(repr(case))
    x = case.x()
    reference = run_reference(case.model(), x)
    np.testing.assert_array_equal(run_kernels(case.model(), x), reference, strict=True)
    np.testing.assert_array_equal(run_kernels(case.model(), x, threads=3), reference, err_msg="threads")


@pytest.mark.parametrize("name", ["avx512", "avx2", "baseline"])
def test_every_instruction_set_gives_the_same_bytes(name: str) -> None:
    run_with_isa("tests.custom_ops.test_byte_clusters", name)


def check_cases() -> None:
    """Compares some cases with the reference."""
    for seed in range(12):
        types: Any = [("uint8", "int8", "uint8"), ("int8", "uint8", "int8"), ("uint8", "uint8", "int8")][seed % 3]
        length, hashes = [(8, 8), (5, 11), (24, 4), (3, 9)][seed % 4]
        case = replace(CASE, types=types, sub_vector_length=length, num_hashes=hashes, seed=seed, rotated=seed % 5 == 1)
        case = replace(case, scope="image" if seed % 2 else "batch")
        x = case.x()
        np.testing.assert_array_equal(run_kernels(case.model(), x), run_reference(case.model(), x), err_msg=repr(case))


def test_of_equal_members_it_is_close_to_the_quantised_model() -> None:
    """Where vectors repeat and trees tell them apart, centroids are their members, and tables of int8 what is lost."""
    case = replace(CASE, distinct=3, num_hashes=11)
    result, exact = run_kernels(case.model(), case.x()), run_kernels(_exact(case).model(), case.x())
    assert len(np.unique(case.x().reshape(-1, SPEC.in_channels), axis=0)) == 3
    assert 0.0 < relative_error(result - 128.0, exact - 128.0) < 0.03


def test_images_share_clusters_of_the_batch_only() -> None:
    x = CASE.x()
    alone = [run_kernels(CASE.model(), x[i : i + 1]) for i in range(len(x))]
    np.testing.assert_array_equal(run_kernels(replace(CASE, scope="image").model(), x), np.concatenate(alone))
    assert (run_kernels(CASE.model(), x) != np.concatenate(alone)).any()


def test_statistics_have_the_clusters() -> None:
    session = reuse_compiler.session(CASE.model().SerializeToString())
    session.run(None, {"X": CASE.x()})
    (node,) = reuse_compiler.statistics(session)
    assert (node.op, node.blocks, node.vectors, node.guarded) == ("QLinearReuseConv", 3, 3 * SPEC.rows, 0)
    assert 3 < node.clusters <= 3 * 64
    assert node.seconds.hash > 0 and node.seconds.gemm > 0 and node.seconds.gather > 0


def _exact(case: HashedCase) -> QuantisedCase:
    """Returns the same layer without a hash."""
    return QuantisedCase(**{each.name: getattr(case, each.name) for each in fields(QuantisedCase)})


def test_its_function_is_the_original_where_the_library_is_missing() -> None:
    model = CASE.model()
    add_function_bodies(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    alone = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    expected = make_session(_exact(CASE).original()).run(None, {"X": CASE.x()})[0]
    np.testing.assert_array_equal(alone.run(None, {"X": CASE.x()})[0], expected)
    np.testing.assert_array_equal(run_kernels(model, CASE.x()), run_kernels(CASE.model(), CASE.x()))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"family": "sign", "num_hashes": 17}, "parameter projections is missing|at most 16 hashes"),
        ({"family": "forest"}, "forest"),
        ({"num_hashes": 17}, "num_hashes is 17, must be 1 to 16"),
        ({"thresholds": ABSENT}, "parameter thresholds is missing"),
        ({"thresholds": np.zeros((3, 62), np.float32)}, "thresholds"),
        ({"coordinates": np.full((3, 63), 8, np.int32)}, "coordinates hold 8, must be 0 to 7"),
        ({"x_scale": np.float32(1e37), "w_scale": np.float32(1e-3)}, "bytes of x stand for infinities"),
        ({"incremental": 1}, "centroids of a run change with all that is in it: family must be exact, or scope stat"),
        ({"scope": "session"}, "scope must be batch, image or static"),
        ({"layout": "patch"}, "layout"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    constants = {name: np.asarray(changes.pop(name, value)) for name, value in CASE.constants().items()}
    model = CASE.with_node("QLinearReuseConv", constants, DOMAIN, CASE.attributes() | changes, dynamic=True)
    with pytest.raises(Exception, match=f"QLinearReuseConv 'conv': .*{sentence}"):
        make_session(model)


if __name__ == "__main__":
    check_cases()
