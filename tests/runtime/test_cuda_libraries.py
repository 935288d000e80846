"""Which libraries of CUDA are loaded, from where, and what is said of those that are not: on small ones made here.

Their names exist nowhere else and are new in each test: what a process has loaded stays.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from reuse_compiler.runtime import cuda_libraries
from reuse_compiler.runtime.cuda_libraries import Library, Problem, explain, libraries, load, package_folders

COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler to make small libraries with")
_numbers = itertools.count()


class Workshop:
    """Makes libraries that write their own path into a file when they are loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "loaded.txt"

    def library(self, folder: str, package: str = "nvidia-made-up==13.*") -> Library:
        """Names one that was never loaded."""
        return Library(f"libreuse_made_up_{os.getpid()}_{next(_numbers)}.so.13", (folder,), package)

    def make(self, library: Library, root: str, needs: Path | None = None) -> Path:
        """Compiles it into its folder below `root`."""
        path = self.folder / root / library.folders[0] / library.soname
        path.parent.mkdir(parents=True, exist_ok=True)
        symbol = library.soname.split(".")[0]
        source = self.folder / "source.c"
        source.write_text(
            "#include <stdio.h>\n"
            f'__attribute__((constructor)) static void loaded(void) {{ FILE* log = fopen("{self._log}", "a");\n'
            f'  fputs("{path}\\n", log); fclose(log); }}\n'
            f"int {symbol}(void) {{ return 1; }}\n"
        )
        assert COMPILER is not None
        command = [COMPILER, "-shared", "-fPIC", f"-Wl,-soname,{library.soname}", "-Wl,--no-as-needed", "-o", str(path)]
        subprocess.run([*command, str(source), *([str(needs)] if needs else [])], check=True, capture_output=True)
        return path

    def loaded(self) -> list[Path]:
        """Returns what has been loaded, in order."""
        return [Path(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@needs_compiler
def test_both_layouts_in_two_folders_each_after_what_it_needs(workshop: Workshop) -> None:
    first, second = workshop.library("cu13/lib"), workshop.library("cudnn/lib")
    needed = workshop.make(first, "a")
    needing = workshop.make(second, "b", needed)
    roots = [workshop.folder / "a", workshop.folder / "b"]
    (problem,) = load([second], roots)
    assert workshop.loaded() == [] and str(needing) in problem.messages[0] and first.soname in problem.messages[0]
    assert load([first, second], roots) == []
    assert workshop.loaded() == [needed, needing]
    everywhere = ctypes.CDLL(None)  # what the process sees without naming a library
    assert all(hasattr(everywhere, library.soname.split(".")[0]) for library in (first, second))


@needs_compiler
def test_the_first_folder_wins_and_nothing_is_loaded_twice(workshop: Workshop) -> None:
    library = workshop.library("cu13/lib")
    paths = [workshop.make(library, root) for root in ("a", "b")]
    roots = [path.parents[2] for path in paths]
    for _ in range(2):
        assert load([library], roots) == []
    assert load([library], roots[::-1]) == []
    assert workshop.loaded() == paths[:1]


@needs_compiler
def test_what_another_package_has_loaded_stays_alone(workshop: Workshop) -> None:
    library = workshop.library("cu13/lib")
    of_torch, of_ours = workshop.make(library, "torch"), workshop.make(library, "a")
    ctypes.CDLL(str(of_torch))
    assert load([library], [of_ours.parents[2]]) == []
    assert workshop.loaded() == [of_torch]


@needs_compiler
def test_what_the_system_finds_is_taken_where_packages_have_none(workshop: Workshop) -> None:
    library = workshop.library("cu13/lib")
    path = workshop.make(library, "system")
    program = f"""
from reuse_compiler.runtime.cuda_libraries import Library, load
print(load([Library({library.soname!r}, ("cu13/lib",))], []))
"""
    environment = os.environ | {"LD_LIBRARY_PATH": str(path.parent)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]" and workshop.loaded() == [path]


def test_what_is_nowhere_is_told_with_the_package_that_has_it(workshop: Workshop) -> None:
    absent = [workshop.library("cu13/lib", name) for name in ("nvidia-a==13.*", "nvidia-a==13.*", "nvidia-b==9.*")]
    of_the_system = Library("libreuse_made_up_driver.so.1", origin="comes with the driver")
    problems = load([*absent, of_the_system], [workshop.folder])
    assert problems == [Problem(library) for library in (*absent, of_the_system)]
    names = ", ".join(library.soname for library in absent)
    assert explain(problems) == (
        f"Not found: {names}, libreuse_made_up_driver.so.1 (comes with the driver). "
        "Try `pip install 'nvidia-a==13.*' 'nvidia-b==9.*'`, or name their folders in LD_LIBRARY_PATH."
    )
    assert explain(problems[-1:]) == "Not found: libreuse_made_up_driver.so.1 (comes with the driver)."
    assert explain([]) == ""


@pytest.mark.parametrize(("content", "words"), [(b"", "file too short"), (b"no library" * 99, "invalid ELF header")])
def test_the_loaders_words_reach_the_user(workshop: Workshop, content: bytes, words: str) -> None:
    library = workshop.library("cu13/lib")
    path = workshop.folder / "a" / "cu13" / "lib" / library.soname
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    problems = load([library], [workshop.folder / "a"])
    text = explain(problems)
    assert f"Not loaded: {path}: {words}." in text and "Not found" not in text
    assert f"pip install '{library.requirement}'" in text


@needs_compiler
def test_a_broken_file_does_not_hide_a_good_one(workshop: Workshop) -> None:
    library = workshop.library("cu13/lib")
    broken, good = workshop.make(library, "a"), workshop.make(library, "b")
    broken.write_bytes(b"")
    assert load([library], [broken.parents[2], good.parents[2]]) == []
    assert workshop.loaded() == [good]


@pytest.mark.parametrize(
    ("cuda", "needed"),
    [
        # What `readelf -d` says of libonnxruntime_providers_cuda.so of onnxruntime-gpu 1.24.4, 1.27.0 and 1.31.1.
        ("12.8", "cublasLt.so.12 cublas.so.12 curand.so.10 cufft.so.11 cudart.so.12 cudnn.so.9"),
        ("13.0", "cublasLt.so.13 cublas.so.13 curand.so.10 cufft.so.12 cudart.so.13 nvrtc.so.13 cudnn.so.9 cuda.so.1"),
        ("13.0", "cublasLt.so.13 cublas.so.13 curand.so.10 cudart.so.13 cuda.so.1"),
    ],
)
def test_all_that_onnxruntimes_provider_needs_is_known(cuda: str, needed: str) -> None:
    assert {f"lib{name}" for name in needed.split()} <= {library.soname for library in libraries(cuda)}


def test_folders_and_packages_are_those_of_pypi() -> None:
    known = {library.soname: library for library in (*libraries("12.8"), *libraries("13.0"))}
    assert known["libcudart.so.13"].requirement == "nvidia-cuda-runtime==13.*"
    assert known["libcudart.so.12"].requirement == "nvidia-cuda-runtime-cu12==12.*"
    assert known["libcufft.so.12"].requirement == "nvidia-cufft==12.*"
    assert known["libcudnn.so.9"].requirement == "nvidia-cudnn-cu13==9.*"
    assert "cu13/lib" in known["libnvJitLink.so.13"].folders and "nvjitlink/lib" in known["libnvJitLink.so.12"].folders
    assert "cudnn/lib" in known["libcudnn.so.9"].folders
    order = [library.soname for library in libraries("13.0")]
    assert order.index("libcublasLt.so.13") < order.index("libcublas.so.13") < order.index("libcudnn.so.9")
    assert libraries("11.8") == libraries("") == libraries("None") == []


@pytest.mark.parametrize("hiding", [False, True])
def test_packages_in_several_folders_of_the_path(hiding: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`hiding`: one of them has a file __init__.py, so that Python knows no other folder of this name."""
    folders = [tmp_path / name / "nvidia" for name in ("a", "b")]
    for folder in folders:
        folder.mkdir(parents=True)
        monkeypatch.syspath_prepend(folder.parent)
    if hiding:
        (folders[0] / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    assert set(folders) <= set(package_folders())


@pytest.fixture
def runtime(workshop: Workshop) -> Iterator[ModuleType]:
    """An onnxruntime of which there is the folder with the provider's library only, an empty file."""
    module = ModuleType("onnxruntime")
    module.__file__ = str(workshop.folder / "onnxruntime" / "__init__.py")
    capi = workshop.folder / "onnxruntime" / "capi"
    capi.mkdir(parents=True)
    (capi / cuda_libraries.PROVIDER).touch()
    yield module


@needs_compiler
def test_the_loaders_words_about_the_provider(workshop: Workshop, runtime: ModuleType) -> None:
    assert cuda_libraries.provider_refusal(runtime) is None, "onnxruntime has not tried yet, and must be the first"
    bridge = workshop.make(Library(cuda_libraries.BRIDGE, ("capi",)), "onnxruntime")
    assert cuda_libraries.provider_refusal(runtime) is None
    ctypes.CDLL(str(bridge))
    provider = bridge.with_name(cuda_libraries.PROVIDER)
    assert cuda_libraries.provider_refusal(runtime) == f"{provider}: file too short"
    workshop.make(Library(cuda_libraries.PROVIDER, ("capi",)), "onnxruntime")
    assert cuda_libraries.provider_refusal(runtime) is None
