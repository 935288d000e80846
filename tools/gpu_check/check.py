"""Runs parts one after the other within one deadline, and reports what there is, whatever ends it."""

from __future__ import annotations

import shutil

from tools.gpu_check.deadline import Deadline, limit_of
from tools.gpu_check.environment import missing_packages
from tools.gpu_check.parts import Part
from tools.gpu_check.report import Report
from tools.gpu_check.runner import Outcome, Runner
from tools.gpu_check.summary import summary


def run_parts(parts: list[Part], deadline: Deadline, report: Report, runner: Runner) -> int:
    """Runs all parts, prints the summary and returns the exit code: 0 if all passed, 1, or 128 and a signal's number.

    The report is written after every part, so that it tells what was done even if this process is killed.
    """
    log, stop = runner.log, runner.stop
    report.forget(part.name for part in parts)
    report.write()
    for index, part in enumerate(parts):
        if stop.signal is not None:
            report.parts[part.name] = Outcome("skipped: the check was interrupted")
            continue
        limit = limit_of(part, parts[index + 1 :], deadline.left())
        reason = why_not(part, report)
        if reason is None and limit is None:
            reason = f"no time left: {max(0.0, deadline.left()):.0f} s, and it needs {part.least} s"
        if reason is not None or limit is None:
            report.parts[part.name] = Outcome(f"skipped: {reason}")
        else:
            log(f"\n== {part.name} (at most {limit} s, {deadline.left():.0f} s left for all): {part.what}")
            report.parts[part.name] = runner.run(part, limit)
        log(f"== {part.name}: {report.parts[part.name].status}")
        report.write()
    report.write()
    log(f"\n{summary(report)}\n\nall of it: {report.folder}")
    if stop.signal is not None:
        return 128 + stop.signal
    return int(any(outcome.status != "passed" for outcome in report.parts.values()))


def why_not(part: Part, report: Report) -> str | None:
    """Returns why a part cannot run, or None."""
    if report.parts.get("build", Outcome("passed")).status != "passed":
        return "there is no library, as the build did not pass"
    absent = [program for program in part.programs if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)} not found"
    return ", ".join(missing_packages(report.machine, part.packages)) or None
