"""Finding the operator library, and saying how to get it where it is not found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

import reuse_compiler
from reuse_compiler._version import VERSION
from reuse_compiler.errors import LibraryError
from reuse_compiler.runtime.library import OVERRIDE, library_file, library_path, library_version, load_library
from reuse_compiler.runtime.sessions import TAG_ENTRY, register


def test_is_part_of_the_package_and_has_a_version() -> None:
    assert library_file().is_file() and library_file().is_absolute()
    assert library_version() == reuse_compiler.__version__ == VERSION
    assert reuse_compiler.library_path() == library_path() == str(library_file())


def test_shows_no_more_than_its_c_functions() -> None:
    """What else it showed could be taken for what another library of the process has under the same name."""
    if shutil.which("nm") is None:
        pytest.skip("what a library shows is told by nm of binutils")
    dynamic = [] if sys.platform == "darwin" else ["--dynamic"]
    command = ["nm", *dynamic, "--extern-only", "--defined-only", library_path()]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    names = {line.split()[-1].removeprefix("_") for line in lines}
    entries = {name for name in names if not name.startswith("reuse_")}
    assert entries == {"CreateEpFactories", "RegisterCustomOps", "ReleaseEpFactory"} and "reuse_version" in names


def test_both_names_of_the_path_suit_onnxruntime() -> None:
    for path in (reuse_compiler.library_path(), reuse_compiler.get_library_path()):
        onnxruntime.SessionOptions().register_custom_ops_library(path)
    assert reuse_compiler.get_library_path() == reuse_compiler.library_path()


def test_another_one_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = shutil.copy(library_path(), tmp_path / "other.so")
    monkeypatch.setenv(OVERRIDE, str(copy))
    assert library_file() == copy
    assert library_version()


def test_a_wrong_name_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "missing.so"))
    with pytest.raises(LibraryError, match=r"REUSE_LIBRARY names .*missing\.so, which is not a file"):
        library_path()


@pytest.mark.parametrize("content", [b"no library", b""])
def test_what_is_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.so").write_bytes(content)
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "broken.so"))
    with pytest.raises(LibraryError, match=r"broken\.so cannot be used .*pip install \."):
        load_library()
    with pytest.raises(LibraryError, match=r"broken\.so cannot be used"):
        reuse_compiler.session("net.onnx")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(TAG_ENTRY, "mine")
    with pytest.raises(LibraryError, match=r"onnxruntime refuses the operator library .*broken\.so"):
        register(options)


def test_an_unbuilt_package_says_how_to_build_it(tmp_path: Path) -> None:
    """A copy of the package without the library, in a Python of its own."""
    package = Path(reuse_compiler.__file__).parent
    shutil.copytree(package, tmp_path / "reuse_compiler", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    program = """
import sys
# An editable install of the package would be found before the copy.
sys.meta_path[:] = [finder for finder in sys.meta_path if finder.__module__.startswith("_frozen_importlib")]
import reuse_compiler
print(reuse_compiler.__file__)
reuse_compiler.library_path()
"""
    environment = {name: value for name, value in os.environ.items() if name not in (OVERRIDE, "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == str(tmp_path / "reuse_compiler" / "__init__.py")
    assert "LibraryError: the operator library" in done.stderr and "pip install ." in done.stderr
