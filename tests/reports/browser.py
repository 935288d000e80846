"""A page in headless Chromium: what it measures there, what the console says, and how it looks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
    # A page that asks for anything from outside gets an error, which the console shows.
    "--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files",
)  # fmt: skip
MEASURING = """<!doctype html><body style="margin:0"><script>
const pages = %s, widths = %s, found = [];
let open = pages.length * widths.length;
for (const name of pages) for (const width of widths) {
  const frame = document.createElement("iframe");
  Object.assign(frame, {src: name, width, height: 800});
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement;
    const beyond = [...page.querySelectorAll("body *")].filter(
      e => e.getBoundingClientRect().right > width + 1 && !e.closest(".scroll"));
    found.push({
      page: name, width, scroll: root.scrollWidth, client: root.clientWidth,
      beyond: beyond.slice(0, 5).map(e => `${e.tagName}.${e.className}`),
      text: page.body.innerText, images: [...page.images].every(i => i.complete && i.naturalWidth > 0),
      drawings: [...page.querySelectorAll(".drawing")].filter(d => d.getBoundingClientRect().height > 50).length,
    });
    if (--open === 0) {
      const result = document.createElement("pre");
      result.id = "result";
      result.textContent = encodeURIComponent(JSON.stringify(found));
      document.body.replaceChildren(result);
    }
  };
  document.body.append(frame);
}
</script>"""
SIDE_BY_SIDE = """<!doctype html><body style="margin:0;display:flex">
<iframe src="%(page)s" style="color-scheme:light;border:0" width="%(width)d" height="%(height)d"></iframe>
<iframe src="%(page)s" style="color-scheme:dark;border:0" width="%(width)d" height="%(height)d"></iframe>"""


class Browser(NamedTuple):
    """A Chromium, with a folder for its profiles."""

    program: str
    folder: Path

    def measure(self, pages: list[Path], widths: list[int]) -> tuple[list[dict[str, Any]], str]:
        """Returns what pages of one folder measure at each width (in frames), and what the console says."""
        harness = pages[0].with_name("measuring.html")
        harness.write_text(MEASURING % (json.dumps([page.name for page in pages]), json.dumps(widths)))
        run = self._run("--dump-dom", harness)
        result = re.search(r'<pre id="result">([^<]*)', run.stdout)
        assert result is not None, f"no answer from the page: {run.stderr[-2000:]}"
        return json.loads(unquote(result[1])), "\n".join(line for line in run.stderr.splitlines() if "CONSOLE" in line)

    def dump(self, page: Path, milliseconds: int = 20_000) -> str:
        """Returns what a page is after that time, which passes as fast as its scripts allow."""
        return self._run("--dump-dom", page, f"--virtual-time-budget={milliseconds}").stdout

    def screenshot(self, page: Path, image: Path, width: int, height: int) -> None:
        """Writes a picture of the page's beginning as PNG: light at the left, dark at the right."""
        both = page.with_name("both.html")
        both.write_text(SIDE_BY_SIDE % {"page": page.name, "width": width, "height": height})
        self._run(f"--screenshot={image}", both, f"--window-size={2 * width},{height}")

    def _run(self, action: str, page: Path, *more: str) -> subprocess.CompletedProcess[str]:
        profile = self.folder / action.removeprefix("--").partition("=")[0]
        command = [self.program, *FLAGS, f"--user-data-dir={profile}", *more, action, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def find_browser(folder: Path) -> Browser:
    """Returns a Chromium that is installed here, or skips the test with a reason."""
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed, and CHROMIUM is not set")
    return Browser(program, folder)
