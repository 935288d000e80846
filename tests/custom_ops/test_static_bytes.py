"""QLinearReuseConv of scope static: the reference's bytes, however it runs."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import reuse_compiler
from reuse_compiler.passes.add_function_bodies import add_function_bodies
from reuse_compiler.passes.lower_to_reuse import DOMAIN, INPUTS
from reuse_compiler.reference.quantised import Quantised
from reuse_compiler.reuse.geometry import ConvSpec
from tests.custom_ops.quantised_cases import (
    ABSENT,
    Array,
    HashedCase,
    QuantisedCase,
    quantised_cases,
    runtime_saturates,
)
from tests.running import make_session, run_kernels, run_reference, run_with_isa


@dataclass(frozen=True)
class StaticByteCase(HashedCase):
    """One of static clusters of layout channel."""

    scope: str = "static"
    fitted: bool = False
    """Whether weights and bias are given that were fitted."""
    keep_tables: bool = True

    def constants(self) -> dict[str, Array]:
        """Returns all inputs but x, in order."""
        own, rng = super().constants(), np.random.default_rng(self.seed + 6)
        centroids = rng.choice(self.byte_values(), (self.blocks, 2**self.num_hashes, self.sub_vector_length))
        weights, g = Quantised(own["w"], own["w_zero_point"], scale=own["w_scale"]).dequantised(), self.spec
        fitted = {
            "fitted_weights": weights * np.float32(0.9) if self.fitted else ABSENT,
            "fitted_bias": rng.standard_normal(g.out_channels).astype(np.float32) if self.fitted else ABSENT,
        }
        return {**own, "centroids": centroids, **fitted}

    def attributes(self) -> dict[str, Any]:
        return super().attributes() | ({} if self.keep_tables else {"keep_tables": 0})


@st.composite
def static_byte_cases(draw: st.DrawFn) -> StaticByteCase:
    own = draw(quantised_cases())
    group = own.spec.group
    channels, outputs = draw(st.sampled_from([1, 4, 9, 16, 23, 40])), draw(st.sampled_from([1, 16, 20, 64, 70, 150]))
    spec = replace(own.spec, in_channels=group * channels, out_channels=group * outputs)
    others = {
        "spec": spec,
        "layout": "channel",
        "scope": "static",
        "sub_vector_length": draw(st.integers(1, channels)),
        "family": draw(st.sampled_from(["learned", "learned", "sign"])),
        "num_hashes": draw(st.integers(1, 11)),
        "rotated": draw(st.booleans()),
        "fitted": draw(st.booleans()),
        "keep_tables": draw(st.booleans()),
    }
    return StaticByteCase(**{**vars(own), **others})


@settings(max_examples=120, deadline=None)
@given(case=static_byte_cases())
def test_kernel_has_the_reference_s_bytes(case: StaticByteCase) -> None:
    note(repr(case))
    x = case.x()
    reference = run_reference(case.model(), x)
    np.testing.assert_array_equal(run_kernels(case.model(), x), reference, strict=True)
    other = replace(case, keep_tables=not case.keep_tables)
    np.testing.assert_array_equal(run_kernels(other.model(), x, threads=3), reference, err_msg="the other keep_tables")


SPEC = ConvSpec(2, 24, 9, 37, 83, (3, 3), pads=(1, 1, 1, 1))
CASE = StaticByteCase(SPEC, "channel", 8, num_hashes=8, small_weights=runtime_saturates())


@pytest.mark.parametrize("name", ["avx512", "avx2", "baseline"])
def test_every_instruction_set_gives_the_same_bytes(name: str) -> None:
    run_with_isa("tests.custom_ops.test_static_bytes", name)


def check_cases() -> None:
    """Compares some cases with the reference."""
    for seed in range(16):
        types: Any = [("uint8", "int8", "uint8"), ("int8", "uint8", "int8"), ("uint8", "uint8", "int8")][seed % 3]
        length, hashes = [(8, 8), (5, 11), (24, 4), (3, 9)][seed % 4]
        case = replace(CASE, types=types, sub_vector_length=length, num_hashes=hashes, seed=seed, rotated=seed % 5 == 1)
        case = replace(case, zero_points=(3, 128 if seed % 4 else 77, 100))
        x = case.x()
        np.testing.assert_array_equal(run_kernels(case.model(), x), run_reference(case.model(), x), err_msg=repr(case))


def test_what_the_last_run_left_changes_no_byte() -> None:
    x = CASE.x()
    model = CASE.model()
    (node,) = model.graph.node
    node.attribute.append(onnx.helper.make_attribute("incremental", 1))
    session, plain = make_session(model), make_session(CASE.model())
    for run in range(4):
        x = x.copy()
        x[:, run : run + 2, 4 * run : 4 * run + 3] += np.uint8(1 + run)
        np.testing.assert_array_equal(session.run(None, {"X": x})[0], plain.run(None, {"X": x})[0])


def test_statistics_have_centroids_and_tables() -> None:
    session = reuse_compiler.session(CASE.model().SerializeToString())
    session.run(None, {"X": CASE.x()})
    (node,) = reuse_compiler.statistics(session)
    assert (node.op, node.blocks, node.clusters) == ("QLinearReuseConv", 3, 3 * 256)
    assert node.table_bytes == 3 * 257 * 9 * 128 and node.seconds.hash > 0 and node.seconds.gather > 0


@pytest.mark.parametrize("fitted", [False, True])
def test_its_function_is_the_original_where_the_library_is_missing(fitted: bool) -> None:
    case = replace(CASE, fitted=fitted)
    model = case.model()
    add_function_bodies(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    alone = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    original = QuantisedCase(**{each.name: getattr(case, each.name) for each in fields(QuantisedCase)})
    expected = make_session(original.original()).run(None, {"X": case.x()})[0]
    np.testing.assert_array_equal(alone.run(None, {"X": case.x()})[0], expected)
    np.testing.assert_array_equal(run_kernels(model, case.x()), run_kernels(case.model(), case.x()))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layout": "patch"}, "layout"),
        ({"family": "exact"}, "family"),
        ({"num_hashes": 17}, "num_hashes is 17, must be 1 to 16"),
        ({"centroids": np.zeros((3, 255, 8), np.float32)}, r"centroids have 6120 elements, need 6144"),
        ({"centroids": ABSENT}, r"centroids have 0 elements, need 6144"),
        ({"thresholds": ABSENT}, "parameter thresholds is missing"),
        ({"fitted_weights": np.zeros((83, 24, 3, 2), np.float32)}, r"fitted_weights has shape"),
        ({"fitted_bias": np.full(83, np.nan, np.float32)}, "the bias of output channel 0 is not finite"),
        ({"fitted_bias": np.zeros(82, np.float32)}, r"fitted_bias has shape \[82\], needs \[83\]"),
        ({"x_scale": np.float32(1e38)}, "bytes of x stand for infinities"),
        ({"y_scale": np.float32(1e-40)}, "1 / y_scale is not finite"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    constants = {name: np.asarray(changes.pop(name, value)) for name, value in CASE.constants().items()}
    assert list(constants) == INPUTS["QLinearReuseConv"][1:]
    model = CASE.with_node("QLinearReuseConv", constants, DOMAIN, CASE.attributes() | changes, dynamic=True)
    with pytest.raises(Exception, match=f"QLinearReuseConv 'conv': .*{sentence}"):
        make_session(model)


if __name__ == "__main__":
    check_cases()
