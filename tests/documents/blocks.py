"""The code blocks of a page, run one after another in a folder, as a reader would do it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = re.compile(
    r"^(?P<reason><!-- not run: [^\n]+ -->\n)?```(?P<language>sh|python)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
SHOWN = re.compile(r"\n+```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOTHING_GAINS = 3
"""Exit code of our commands that is a result, and depends on what else the machine does: no layer was rewritten."""


class Block(NamedTuple):
    """A block of commands or of Python, and what the page says that it prints."""

    language: str
    code: str
    shown: str | None


def blocks(page: Path) -> list[Block]:
    """Returns the blocks of a page that can be run here, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        if match["reason"] is None:
            shown = SHOWN.match(text, match.end())
            found.append(Block(match["language"], match["code"], shown and shown[1]))
    return found


def run(block: Block, folder: Path, names: dict[str, Any] | None = None) -> str:
    """Runs a block in a folder and returns what it prints; Python knows `names`, and adds its own to them."""
    if block.language == "sh":
        return _run_commands(block.code, folder)
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(block.code, {} if names is None else names)
    return printed.getvalue()


def _run_commands(code: str, folder: Path) -> str:
    lines = [line.partition(" #")[0].rstrip() for line in code.replace("\\\n", " ").splitlines()]
    script = "\n".join(f"{line} || [ $? = {NOTHING_GAINS} ]" for line in lines if line)
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "COLUMNS": "80"}
    done = subprocess.run(["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
    return done.stdout
