"""Installs our wheel beside several versions of onnxruntime and runs the same smoke test in each.

    python -m tools.compatibility 1.18.1 1.24.4 newest

Each version gets an environment of its own under .venvs/, which is kept and reused. It has what our package asks for
and no more, and neither there nor on the path is anything that could compile, as on a user's machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMOKE_TEST = ROOT / "tools" / "smoke_test.py"
# The first onnxruntime built against numpy 2; earlier ones need numpy 1.
FIRST_WITH_NUMPY_2 = (1, 19)


def build_wheel(folder: Path) -> Path:
    """Builds the wheel of this source tree into `folder`."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT)], check=True
    )
    return next(folder.glob("*.whl"))


def requirements(version: str) -> list[str]:
    """Returns what pip must install for an onnxruntime version, or for the newest one."""
    if version == "newest":
        return ["onnxruntime"]
    major, minor = (int(part) for part in version.split(".")[:2])
    numpy = [] if (major, minor) >= FIRST_WITH_NUMPY_2 else ["numpy<2"]
    return [f"onnxruntime=={version}", *numpy]


def users_environment(programs: Path) -> dict[str, str]:
    """Returns this process's environment with the programs of one folder only, and without settings for builds."""
    ours = ("CC", "CXX", "CUDACXX", "CUDA_HOME", "PYTHONPATH", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("REUSE_")}
    return kept | {"PATH": str(programs)}


def check(version: str, wheel: Path, folder: Path) -> None:
    """Runs the smoke test with `wheel` and one version of onnxruntime in an environment in `folder`."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder)
    environment = users_environment(python.parent)
    # Of what is installed few modules are imported: these are compiled then.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile"]
    pip += ["--disable-pip-version-check", "--only-binary=:all:"]
    upgrade = ["--upgrade"] if version == "newest" else []
    subprocess.run([*pip, *upgrade, *requirements(version), str(wheel)], check=True, env=environment)
    subprocess.run([*pip, "--force-reinstall", "--no-deps", str(wheel)], check=True, env=environment)
    with tempfile.TemporaryDirectory() as elsewhere:  # not in the source tree, so that the wheel is what is tested
        subprocess.run([str(python), str(SMOKE_TEST)], check=True, cwd=elsewhere, env=environment)


def main(versions: list[str]) -> None:
    """Checks all versions; stops at the first failure."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        for version in versions:
            check(version, wheel, ROOT / ".venvs" / f"onnxruntime-{version}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {error}")
