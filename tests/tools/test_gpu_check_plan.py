"""The GPU check's plan: order, deadline, the files that it runs, and what its processes find."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

import pytest

from tools.gpu_check import __main__ as gpu_check
from tools.gpu_check import prebuilt
from tools.gpu_check.deadline import SECONDS, SECONDS_WITH_OPTIONAL, Deadline, limit_of, slowest
from tools.gpu_check.environment import describe, environment, missing_packages, unpack
from tools.gpu_check.packages import versions
from tools.gpu_check.parts import NEEDED, PACE, Part, all_parts
from tools.gpu_check.prebuilt import DEVICE_TESTS, LIBRARY, STAMP, Binaries, choose, stamp
from tools.gpu_check.rehearsal import rehearsals
from tools.gpu_check.report import Report
from tools.gpu_check.runner import Outcome

BINARIES = Binaries(Path("/built") / LIBRARY, Path("/built") / DEVICE_TESTS, "somewhere")
TO_BUILD = Binaries(BINARIES.library, BINARIES.device_tests, "here", to_build=True)


def part(least: int, most: int) -> Part:
    return Part("part", "", [], least=least, most=most)


def test_a_part_leaves_to_later_ones_what_they_need_at_least() -> None:
    later = [part(10, 100), part(20, 100)]
    assert limit_of(part(5, 60), later, left=300) == 60
    assert limit_of(part(5, 60), later, left=70) == 40
    assert limit_of(part(5, 60), later, left=34) == 5, "an earlier part comes first"
    assert limit_of(part(5, 60), later, left=4.9) is None
    assert limit_of(part(5, 60), [], left=12.7) == 12


def test_what_a_part_leaves_over_is_the_next_ones() -> None:
    now = 100.0
    deadline = Deadline(50, clock=lambda: now)
    parts = [part(10, 40), part(20, 40)]
    assert limit_of(parts[0], parts[1:], deadline.left()) == 30
    now += 3
    assert limit_of(parts[1], [], deadline.left()) == 40
    assert slowest(parts, 50) == [(0, 30), (30, 20)]
    assert slowest(parts, 15) == [(0, 10), (10, None)]


@pytest.mark.parametrize("binaries", [BINARIES, TO_BUILD])
def test_within_the_usual_time_every_part_can_begin(binaries: Binaries, tmp_path: Path) -> None:
    parts = all_parts(tmp_path, binaries, "90a-real")
    names = [each.name for each in parts]
    assert names == ["build"] * binaries.to_build + [
        "kernels", "session", "operators", "layers", "memcheck", "racecheck", "networks", "steps", "training",
    ]  # fmt: skip
    assert [each.name for each in parts if each.optional] == ["training"]
    for seconds, wanted in ((SECONDS, parts[:-1]), (SECONDS_WITH_OPTIONAL, parts)):
        plan = slowest(wanted, seconds)
        assert all(limit is not None for _, limit in plan)
        assert plan[-1][0] + (plan[-1][1] or 0) <= seconds


def test_tests_stop_soon_and_measurements_in_time(tmp_path: Path) -> None:
    for each in all_parts(tmp_path, BINARIES, "90a-real"):
        assert each.variables.get("REUSE_LIBRARY") == str(BINARIES.library) or BINARIES.device_tests in map(
            Path, each.command
        )
        if "pytest" in each.command:
            assert {"--maxfail=3", "--tb=short"} <= set(each.command) and each.variables["REUSE_REQUIRE_CUDA"] == "1"
        assert (PACE in each.command) == (each.name in ("layers", "networks"))


def test_the_rehearsal_requires_no_gpu(tmp_path: Path) -> None:
    parts = rehearsals(all_parts(tmp_path, BINARIES, "90a-real"), tmp_path, BINARIES)
    assert [each.name for each in parts] == ["session?", "operators?", "steps?", "layers", "networks"]
    assert not any("REUSE_REQUIRE_CUDA" in each.variables for each in parts)
    assert all("--collect-only" in each.command or "--smoke" in each.command for each in parts)


def test_files_in_a_folder_are_taken_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=LIBRARY):
        choose(tmp_path, "90a-real")
    (tmp_path / LIBRARY).touch()
    found = choose(tmp_path, "90a-real")
    assert found.library == tmp_path / LIBRARY and not found.device_tests.is_file() and not found.to_build
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / DEVICE_TESTS).touch()
    assert choose(tmp_path / LIBRARY, "90a-real").device_tests == tmp_path / "tests" / DEVICE_TESTS
    (tmp_path / DEVICE_TESTS).touch(mode=0o600)
    found = choose(tmp_path, "90a-real")
    assert found.device_tests == tmp_path / DEVICE_TESTS and os.access(found.device_tests, os.X_OK)
    assert found.origin.endswith("of sources that it does not tell")
    (tmp_path / STAMP).write_text(stamp("90a-real"))
    assert choose(tmp_path, "90a-real").origin.endswith("of these sources")
    assert "OTHER SOURCES" in choose(tmp_path, "80").origin


def test_files_that_were_built_from_these_sources_are_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prebuilt, "READY", tmp_path)
    monkeypatch.setattr(prebuilt, "nvcc", lambda: sys.executable)
    assert choose(None, "90a-real").to_build
    for name in (LIBRARY, DEVICE_TESTS):
        (tmp_path / name).touch()
    (tmp_path / STAMP).write_text(stamp("80"))
    assert choose(None, "90a-real").to_build
    (tmp_path / STAMP).write_text(stamp("90a-real"))
    assert not choose(None, "90a-real").to_build
    monkeypatch.setattr(prebuilt, "nvcc", lambda: "no-such-compiler")
    (tmp_path / STAMP).write_text(stamp("80"))
    assert "OTHER SOURCES" in choose(None, "90a-real").origin
    (tmp_path / LIBRARY).unlink()
    monkeypatch.setattr(prebuilt, "_installed", lambda: BINARIES)
    assert choose(None, "90a-real") is BINARIES
    monkeypatch.setattr(prebuilt, "_installed", lambda: None)
    assert choose(None, "90a-real").to_build


def test_the_stamp_tells_sources_and_architecture(tmp_path: Path) -> None:
    (tmp_path / "a.cu").write_text("x")
    first = stamp("80", tmp_path)
    (tmp_path / "notes").write_text("x")
    assert stamp("80", tmp_path) == first != stamp("90a-real", tmp_path)
    (tmp_path / "a.cu").write_text("y")
    assert stamp("80", tmp_path) != first


def test_a_build_puts_all_that_is_needed_into_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def build(folder: Path, options: list[str], target: str) -> None:
        assert "-DREUSE_CUDA=ON" in options and "-DCMAKE_CUDA_ARCHITECTURES=90a-real" in options
        path = folder / {"reuse_ops": LIBRARY, DEVICE_TESTS: f"tests/{DEVICE_TESTS}"}[target]
        path.parent.mkdir(exist_ok=True)
        path.write_text(target)
        built.append(target)

    monkeypatch.setattr(prebuilt, "build", build)
    monkeypatch.setattr(prebuilt, "BUILD", tmp_path)
    monkeypatch.setattr(prebuilt, "READY", tmp_path / "prebuilt")
    prebuilt.build_here("90a-real")
    assert built == ["reuse_ops", DEVICE_TESTS]
    assert {path.name for path in (tmp_path / "prebuilt").iterdir()} == {LIBRARY, DEVICE_TESTS, STAMP}
    assert not choose(None, "90a-real").to_build


def test_packages_of_a_bundle_come_first_and_nvidias_libraries_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "/before")
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    (tmp_path / "greeting.py").write_text("")
    bundle, site = tmp_path / "site.tar.xz", tmp_path / "site"
    with tarfile.open(bundle, "w:xz") as archive:
        archive.add(tmp_path / "greeting.py", "./greeting.py")
    unpack(bundle, site)
    assert (site / "greeting.py").is_file() and sys.path[0] == str(site)
    folders = [tmp_path / "machine" / "nvidia" / name / "lib" for name in ("cu13", "cudnn")]
    for folder in folders:
        folder.mkdir(parents=True)
    found = environment(site, ["", str(tmp_path / "machine")])
    assert found["PYTHONPATH"] == f"{site}:/before" and found["PYTHONUNBUFFERED"] == "1"
    assert found["LD_LIBRARY_PATH"] == ":".join(map(str, folders))
    assert environment(site, [])["LD_LIBRARY_PATH"] == "", "an empty entry would be the current folder"


def test_the_machine_is_described_whatever_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = describe({})
    assert set(NEEDED) <= set(machine["packages"]) and "CPUExecutionProvider" in machine["packages"]["providers"]
    assert missing_packages(machine, NEEDED) == []
    monkeypatch.setitem(sys.modules, "rich", None)
    assert versions()["rich"].startswith("missing (ModuleNotFoundError")
    broken = describe({"PYTHONHOME": "/nowhere"})
    assert broken["packages"]["packages"].startswith("missing") and missing_packages(broken, NEEDED) == []


@pytest.mark.parametrize(("arguments", "wanted"), [([], False), (["--optional"], True), (["--only", "training"], True)])
def test_training_runs_only_where_it_is_asked_for(
    arguments: list[str], wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[tuple[list[Part], float]] = []

    def rehearse(parts: list[Part], seconds: float, *rest: object) -> int:
        chosen.append((parts, seconds))
        return 0

    monkeypatch.setattr(sys, "argv", ["gpu_check", "--dry", "--output", str(tmp_path), *arguments])
    monkeypatch.setattr(gpu_check, "rehearse", rehearse)
    monkeypatch.setattr(gpu_check, "describe", lambda variables: {"packages": {}})
    assert gpu_check.main() == 0
    parts, seconds = chosen[0]
    assert (parts[-1].name == "training") == wanted and (seconds == SECONDS_WITH_OPTIONAL) == wanted


def test_results_of_a_whole_check_are_copied_to_be_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, copies = tmp_path / "results", tmp_path / "docs"
    folder.mkdir()
    copies.mkdir()
    monkeypatch.setattr(gpu_check, "COPIES", copies)
    report = Report(folder, parts={"layers": Outcome("passed"), "training": Outcome("skipped: torch missing")})
    (folder / "training_gpu.json").write_text("{}")
    report.write()
    gpu_check.copy(report)
    assert not list(copies.iterdir()), "nothing was measured"
    (folder / "layers.jsonl").write_text('{"layer": "a"}\n')
    report.write()
    gpu_check.copy(report)
    assert [path.name for path in copies.iterdir()] == ["gpu.json"]
    report.parts["training"] = Outcome("passed")
    gpu_check.copy(report)
    assert {path.name for path in copies.iterdir()} == {"gpu.json", "training_gpu.json"}
    monkeypatch.setattr(gpu_check, "COPIES", folder)
    gpu_check.copy(report)
