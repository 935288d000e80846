"""The GPU check's runner: real processes, their output as it comes, and their end in every way that there is."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from tools.cpp_build import ROOT
from tools.gpu_check.check import run_parts
from tools.gpu_check.deadline import Deadline
from tools.gpu_check.parts import PACE, Part
from tools.gpu_check.report import LOG, Report
from tools.gpu_check.runner import MARGIN, TAIL, Log, Runner, Stop

LONG = 600
"""Seconds: longer than any test is waited for, so that what sleeps so long was ended by something else."""
ALIVE = f"import os, time; os.open({{path!r}}, os.O_WRONLY); print('begun', flush=True); time.sleep({LONG})"
"""Opens a FIFO for writing, so that its reader learns when this process ends, by whatever means."""


def part(script: str, name: str = "part", **fields: Any) -> Part:
    return Part(name, "does it", [sys.executable, "-c", script], **{"least": 1, "most": LONG} | fields)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner({}, Log(tmp_path / LOG), Stop())


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def wait_for_end(reading: int) -> None:
    """Returns when nobody has the FIFO open for writing any more; what is killed needs no time for that."""
    assert select.select([reading], [], [], LONG / 4)[0], "a process was left running"
    assert os.read(reading, 1) == b""
    os.close(reading)


def opened(fifo: Path) -> int:
    return os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)


def test_parts_end_as_their_programs_do(runner: Runner, tmp_path: Path) -> None:
    assert runner.run(part("print('x')"), LONG).status == "passed"
    assert runner.run(part("raise SystemExit(7)"), LONG).status == "failed with exit code 7"
    killed = runner.run(part("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), LONG)
    assert killed.status == "failed: ended by SIGSEGV"
    absent = Part("part", "", ["/no/such/program"], least=1, most=5)
    assert runner.run(absent, 5).status.startswith("failed: ")


def test_a_part_that_hangs_is_stopped_with_all_that_it_started(runner: Runner, fifo: Path) -> None:
    reading = opened(fifo)
    os.set_blocking(reading, True)
    child = ALIVE.format(path=str(fifo))
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    # The limit is no time that something is expected to take: the part would run for ever.
    outcome = runner.run(part(script), 3)
    assert outcome.status == "stopped after 3 seconds" and outcome.failed
    wait_for_end(reading)


def test_what_a_part_leaves_running_ends_with_it(runner: Runner, fifo: Path) -> None:
    reading = opened(fifo)
    os.set_blocking(reading, True)
    child = ALIVE.format(path=str(fifo))
    script = (
        "import subprocess, sys;"
        f"p = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE); p.stdout.readline()"
    )
    assert runner.run(part(script), LONG).status == "passed"
    wait_for_end(reading)


def test_output_is_passed_on_while_the_part_runs(tmp_path: Path, fifo: Path) -> None:
    """The part waits until its first line has been seen: were output kept back, neither would go on."""
    received: list[str] = []

    class Answering(Log):
        def __call__(self, text: str, end: str = "\n") -> None:
            super().__call__(text, end)
            received.append(text)
            if "first" in text:
                fifo.write_text("go on")

    # As C libraries do, Python holds back what it writes, unless it is to a terminal.
    script = f"print('first'); open({str(fifo)!r}).read(); print('sécond', end='')"
    runner = Runner({"PYTHONUNBUFFERED": ""}, Answering(tmp_path / LOG), Stop())
    outcome = runner.run(part(script), LONG // 4)
    assert outcome.status == "passed" and outcome.output == "first\nsécond"
    assert (tmp_path / LOG).read_text() == "first\nsécond\n" and len(received) >= 2


def test_the_log_has_everything_and_the_report_the_end(runner: Runner, tmp_path: Path) -> None:
    outcome = runner.run(part("import sys; print('a' * 9000); print('end', file=sys.stderr)"), LONG)
    assert len(outcome.output) == TAIL and outcome.output.endswith("a\nend\n")
    assert (tmp_path / LOG).read_text() == "a" * 9000 + "\nend\n"


def test_parts_get_their_variables_and_the_seconds_that_they_have(tmp_path: Path) -> None:
    runner = Runner({"ONE": "1", "TWO": "1"}, Log(tmp_path / LOG), Stop())
    script = "import os, sys; print(os.environ['ONE'], os.environ['TWO'], sys.argv[1])"
    paced = Part("part", "", [sys.executable, "-c", script, PACE], least=1, most=LONG, variables={"TWO": "2"})
    assert runner.run(paced, LONG).output == f"1 2 {LONG - MARGIN}\n"


def report_of(tmp_path: Path) -> Report:
    return Report(tmp_path, "built", {"packages": {}})


def test_the_report_is_written_whatever_happens(
    runner: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "layers.jsonl"
    measure = f'open({str(lines)!r}, \'w\').write(\'{{"layer": "a", "batch": 1, "skipped": "too large"}}\\n{{\')'
    parts = [
        part("print('fine')"),
        part("print('it broke here'); raise SystemExit(3)", "broken"),
        part("", "needy", programs=("no-such-program",)),
        part("", "late", least=10 * LONG),
        part(measure, "layers"),
    ]
    assert run_parts(parts, Deadline(5 * LONG), report_of(tmp_path), runner) == 1
    report = json.loads((tmp_path / "gpu.json").read_text())
    statuses = {name: each["status"] for name, each in report["parts"].items()}
    late = statuses.pop("late")
    assert late.startswith("skipped: no time left: ") and late.endswith(f" s, and it needs {10 * LONG} s")
    assert statuses == {
        "part": "passed",
        "broken": "failed with exit code 3",
        "needy": "skipped: no-such-program not found",
        "layers": "passed",
    }
    assert report["layers"] == [{"layer": "a", "batch": 1, "skipped": "too large"}]
    out = capsys.readouterr().out
    assert "the end of broken's output:\nit broke here" in out and "skipped: a, batch 1: too large" in out
    assert out in (tmp_path / LOG).read_text()
    assert "fine" not in out[out.index("the end of broken's") :]


def test_an_earlier_checks_measurements_are_not_taken_for_this_ones(runner: Runner, tmp_path: Path) -> None:
    for kind in ("layers", "networks"):
        (tmp_path / f"{kind}.jsonl").write_text('{"layer": "old", "batch": 1, "skipped": "old"}\n')
    report = report_of(tmp_path)
    run_parts([part("", "layers", least=10 * LONG)], Deadline(LONG), report, runner)
    assert report.measured("layers") == report.measured("networks") == []
    assert (tmp_path / "networks.jsonl").is_file(), "a check without that part leaves its results alone"


def test_nothing_runs_with_a_library_that_was_not_built(runner: Runner, tmp_path: Path) -> None:
    report = report_of(tmp_path)
    run_parts([part("raise SystemExit(1)", "build"), part("")], Deadline(LONG), report, runner)
    assert report.parts["part"].status == "skipped: there is no library, as the build did not pass"


def test_a_missing_package_is_a_reason(runner: Runner, tmp_path: Path) -> None:
    report = Report(tmp_path, "", {"packages": {"torch": "missing", "numpy": "2.0"}})
    parts = [part("", "one", packages=("numpy", "torch")), part("", "other", packages=("numpy",))]
    assert run_parts(parts, Deadline(LONG), report, runner) == 1
    assert report.parts["one"].status == "skipped: torch missing" and report.parts["other"].status == "passed"


CHECK = """
import sys
from pathlib import Path
from tools.gpu_check.check import run_parts
from tools.gpu_check.deadline import Deadline
from tools.gpu_check.parts import Part
from tools.gpu_check.report import Report
from tools.gpu_check.runner import Log, Runner, Stop
folder, script = Path(sys.argv[1]), sys.argv[2]
parts = [Part(name, "", [sys.executable, "-c", each], least=1, most=600)
         for name, each in (("first", "print('did it')"), ("long", script), ("last", ""))]
report = Report(folder, "", {"packages": {}})
with Stop() as stop:
    sys.exit(run_parts(parts, Deadline(1800), report, Runner({}, Log(folder / "gpu_check.log"), stop)))
"""


def start_check(folder: Path, script: str) -> subprocess.Popen[str]:
    """A check of three parts, in a process of its own, of which the second runs a script."""
    command = [sys.executable, "-c", CHECK, str(folder), script]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)


def read_until(stream: IO[str] | None, text: str) -> str:
    assert stream is not None
    read = ""
    for line in stream:
        read += line
        if text in line:
            return read
    raise AssertionError(f"no {text!r} in: {read}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_check_says_what_it_has(number: signal.Signals, tmp_path: Path, fifo: Path) -> None:
    check = start_check(tmp_path, ALIVE.format(path=str(fifo)))
    reading = opened(fifo)
    os.set_blocking(reading, True)
    read_until(check.stdout, "begun")
    check.send_signal(number)
    out, _ = check.communicate()
    assert check.returncode == 128 + number
    wait_for_end(reading)
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert {name: each["status"] for name, each in parts.items()} == {
        "first": "passed",
        "long": f"interrupted by {number.name}",
        "last": "skipped: the check was interrupted",
    }
    first, long, last = out[out.index("the end of long's output:\nbegun") :].split("\n\n")[1].splitlines()
    assert first.endswith(" s  passed") and long.endswith(number.name) and last.endswith("was interrupted")


NESTED = """
import sys
from pathlib import Path
from tools.gpu_check import again
again.run([sys.executable, "-c", {script!r}], Path({path!r}), 600)
"""


@pytest.mark.parametrize("nested", [False, True])
def test_a_killed_check_leaves_what_it_had_and_no_process(nested: bool, tmp_path: Path, fifo: Path) -> None:
    """Also where the part measures in a process of its own."""
    script = ALIVE.format(path=str(fifo))
    if nested:
        script = NESTED.format(script=script, path=str(tmp_path / "layers.jsonl"))
    check = start_check(tmp_path, script)
    reading = opened(fifo)
    os.set_blocking(reading, True)
    read_until(check.stdout, "begun")
    check.kill()
    check.communicate()
    wait_for_end(reading)
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert parts["first"]["status"] == "passed" and "did it" in parts["first"]["output"]
    assert "begun" in (tmp_path / LOG).read_text()
