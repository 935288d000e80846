"""Installs our wheel beside several versions of onnxruntime and runs the same smoke test in each.

    python -m tools.compatibility 1.18.1 1.24.4 newest

Each version gets an environment of its own under .venvs/, which is kept and reused.
"""

from __future__ import annotations

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


def check(version: str, wheel: Path) -> None:
    """Runs the smoke test with `wheel` and one version of onnxruntime."""
    folder = ROOT / ".venvs" / f"onnxruntime-{version}"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder)
    # Of what is installed few modules are imported: these are compiled then.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile"]
    upgrade = ["--upgrade"] if version == "newest" else []
    subprocess.run([*pip, *upgrade, *requirements(version), str(wheel)], check=True)
    subprocess.run([*pip, "--force-reinstall", "--no-deps", str(wheel)], check=True)
    with tempfile.TemporaryDirectory() as elsewhere:  # not in the source tree, so that the wheel is what is tested
        subprocess.run([str(python), str(SMOKE_TEST)], check=True, cwd=elsewhere)


def main(versions: list[str]) -> None:
    """Checks all versions; stops at the first failure."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        for version in versions:
            check(version, wheel)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {error}")
