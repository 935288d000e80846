"""The library registered as one of an execution provider, which onnxruntime 1.24 and later take operators from."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import reuse_compiler
from tests.passes.models import conv_model, random_array, run

X = {"x": random_array(1, 4, 8, 8)}
MINOR = int(onnxruntime.__version__.split(".")[1])
# In a process of its own: what a session leaves behind when its library goes would end this one.
PROGRAM = """
import sys
import numpy as np
import onnxruntime
import reuse_compiler

def devices():
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == "ReuseExecutionProvider"]

def run(counted):
    options = onnxruntime.SessionOptions()
    options.add_provider_for_devices(devices(), {})
    session = onnxruntime.InferenceSession(sys.argv[1], options)
    np.testing.assert_allclose(session.run(None, {"x": np.load(sys.argv[2])})[0], np.load(sys.argv[3]), 1e-4, 1e-4)
    if counted:  # which loads the library a second time, so that it stays loaded from here on
        # Sessions with the provider share their counts: whether the first one's are there depends on the unloading.
        print([(node.op, node.runs > 0) for node in reuse_compiler.statistics(session)], session.get_providers())

for name in ("first", "second"):
    onnxruntime.register_execution_provider_library(name, reuse_compiler.get_library_path())
    run(counted=name == "second")
    onnxruntime.unregister_execution_provider_library(name)
print(devices())
"""


@pytest.mark.skipif(MINOR < 22, reason="this onnxruntime has no libraries of execution providers")
@pytest.mark.parametrize("fallback", [True, False])
def test_a_model_runs_with_the_provider_added(tmp_path: Path, fallback: bool) -> None:
    compiled = reuse_compiler.compile(conv_model(), family="exact", force=True, fallback=fallback)
    compiled.save(tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", X["x"])
    np.save(tmp_path / "y.npy", run(conv_model(), X)[0])
    files = [str(tmp_path / name) for name in ("m.onnx", "x.npy", "y.npy")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *files], capture_output=True, text=True, timeout=120, check=False
    )
    if MINOR < 24:
        assert done.returncode == 1 and "1.24 and later do: register the library with" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    counted = "[('ReuseConv', True)] ['ReuseExecutionProvider', 'CPUExecutionProvider']"
    assert done.stdout.splitlines() == [counted, "[]"]
