"""What is published: the archive of the sources is complete, and wheels that are not as they should be are refused."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from reuse_compiler._version import VERSION
from reuse_compiler.runtime.library import FILE_NAME, has_cuda, library_file
from tools.compatibility import users_environment
from tools.cpp_build import ROOT
from tools.wheels import faults

LIBRARY = f"reuse_compiler/lib/{FILE_NAME}"
WITHOUT_CUDA, WITH_CUDA = b"", b"reuse_cuda_forward"


def test_the_archive_of_the_sources_has_every_file_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = pytest.importorskip("scikit_build_core.build", reason="the build's backend is in extra [test]")
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("which files belong to the repository is known where git is")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = set(subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines())
    monkeypatch.chdir(ROOT)
    archive = backend.build_sdist(str(tmp_path))
    assert archive == f"reuse_compiler-{VERSION}.tar.gz"
    with tarfile.open(tmp_path / archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    wanted = {name for name in files if (ROOT / name).exists() and not name.startswith(".ci/")}
    assert names - {"PKG-INFO"} == wanted


def test_the_changelog_tells_of_this_version_first() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *others = re.findall(r"^## (.*)$", text, re.MULTILINE)
    dated = r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d"
    if VERSION.endswith(".dev0"):
        assert first == "[Unreleased]"
    else:
        first, *others = others if first == "[Unreleased]" else [first, *others]
        assert first.startswith(f"[{VERSION}]") and re.fullmatch(dated, first)
    assert others and all(re.fullmatch(dated, heading) for heading in others)


def wheel(folder: Path, files: dict[str, bytes], label: str = "", tag: str = "manylinux_2_34_x86_64") -> Path:
    path = folder / f"reuse_compiler-{VERSION}{label}-py3-none-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"reuse_compiler-{VERSION}.dist-info/METADATA", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("label", "tag", "files", "cuda", "fault"),
    [
        ("", "linux_x86_64", {LIBRARY: WITHOUT_CUDA}, False, "this machine's Linux"),
        ("", "manylinux_2_34_x86_64", {LIBRARY: WITH_CUDA}, False, "its library has CUDA kernels"),
        ("+cu13", "manylinux_2_34_x86_64", {LIBRARY: WITHOUT_CUDA}, True, "has no CUDA kernels"),
        ("", "manylinux_2_34_x86_64", {LIBRARY: WITH_CUDA}, True, "its version does not say"),
        ("", "manylinux_2_34_x86_64", {"reuse_compiler/__init__.py": b""}, False, "its libraries are none"),
        ("", "manylinux_2_34_x86_64", {LIBRARY: b"", "reuse_compiler.libs/libz-1.so.1": b""}, False, "libz"),
        ("", "manylinux_2_34_x86_64", {LIBRARY: b"", "tests/x.py": b""}, False, "more than the package: tests"),
        ("", "manylinux_2_34_x86_64", {LIBRARY: bytes(5 << 20)}, False, "it takes 5 MiB"),
    ],
)
def test_a_wheel_that_is_not_as_it_should_be_is_refused(
    tmp_path: Path, label: str, tag: str, files: dict[str, bytes], cuda: bool, fault: str
) -> None:
    assert fault in "; ".join(faults(wheel(tmp_path, files, label, tag), cuda))


@pytest.mark.parametrize(("label", "content", "cuda"), [("", WITHOUT_CUDA, False), ("+cu13", WITH_CUDA, True)])
def test_a_wheel_that_is_as_it_should_be_is_not(tmp_path: Path, label: str, content: bytes, cuda: bool) -> None:
    assert not faults(wheel(tmp_path, {LIBRARY: content}, label), cuda)


def test_what_tells_a_library_with_cuda_kernels_from_others() -> None:
    assert (WITH_CUDA in library_file().read_bytes()) == has_cuda()


def test_wheels_are_tried_without_compilers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++")
    monkeypatch.setenv("REUSE_LIBRARY", "elsewhere.so")
    environment = users_environment(tmp_path)
    assert not {"CXX", "REUSE_LIBRARY"} & environment.keys()
    assert not [name for name in ("cc", "c++", "gcc", "g++", "cmake") if shutil.which(name, path=environment["PATH"])]
