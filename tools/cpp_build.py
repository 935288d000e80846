"""Configures and builds the C++ library outside of pip: `python -m tools.cpp_build FOLDER [-DOPTION=VALUE ...]`.

With `--target=NAME`, which may be repeated, only those targets are built. With `--configure-only` nothing is compiled:
the folder has compile_commands.json, with each file once, which is all that clang-tidy needs: it would read a file that
several targets compile once for each.

Uses the machine's CMake and Ninja if it has them, else installs both into the running environment.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIGURE_ONLY = "--configure-only"
TARGET = "--target="


def program(name: str) -> str:
    """Returns the path of a build program, installing its PyPI package if the machine has none."""
    found = shutil.which(name)
    if found is not None:
        return found
    if importlib.util.find_spec(name) is None:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", name], check=True)
    return str(Path(sys.executable).parent / name)


def configure(folder: Path, options: list[str]) -> None:
    """Configures `folder` with the given CMake options."""
    command = [program("cmake"), "-S", str(ROOT / "custom_ops"), "-B", str(folder), "-G", "Ninja"]
    command += [f"-DCMAKE_MAKE_PROGRAM={program('ninja')}", "--log-level=WARNING", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def keep_last_commands(folder: Path) -> None:
    """Leaves each file's last command in compile_commands.json: of the kernels, that of the richest instruction set."""
    path = folder / "compile_commands.json"
    commands = {entry["file"]: entry for entry in json.loads(path.read_text(encoding="utf-8"))}
    path.write_text(json.dumps(list(commands.values()), indent=1), encoding="utf-8")


def build(folder: Path, options: list[str], *targets: str) -> None:
    """Configures `folder` with the given CMake options and builds these targets, or all."""
    configure(folder, options)
    subprocess.run([program("cmake"), "--build", str(folder), "--target", *(targets or ["all"])], check=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        if CONFIGURE_ONLY in sys.argv:
            configure(Path(sys.argv[1]), [option for option in sys.argv[2:] if option != CONFIGURE_ONLY])
            keep_last_commands(Path(sys.argv[1]))
        else:
            targets = [word.removeprefix(TARGET) for word in sys.argv[2:] if word.startswith(TARGET)]
            build(Path(sys.argv[1]), [word for word in sys.argv[2:] if not word.startswith(TARGET)], *targets)
    except subprocess.CalledProcessError as error:
        sys.exit(f"the C++ build failed: {error}")
