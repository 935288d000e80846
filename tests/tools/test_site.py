"""The documentation as a site: it is whole, asks for nothing from outside, and can be searched as files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reports.browser import find_browser
from tools.cpp_build import ROOT
from tools.site_pages import site_links

SEARCHING = """<!doctype html><body><iframe src="results/calibration.html"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, query = page.querySelector("[data-md-component=search-query]");
  query.focus();
  query.value = "centroid";
  query.dispatchEvent(new Event("keyup", {bubbles: true}));
  new MutationObserver(() => {
    const links = [...page.querySelectorAll("a.md-search-result__link")].map(link => link.getAttribute("href"));
    if (links.length) document.body.textContent = `found ${links.join(" ")}`;
  }).observe(page.body, {childList: true, subtree: true});
};
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="mkdocs-material (extra `docs`) is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder


def test_no_page_asks_for_anything_from_outside(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert {"index.html", "glossary.html", "contributing.html"} <= {page.name for page in pages}
    wanted = re.compile(r"<(?:script|img|iframe)[^>]*\ssrc=\"?https?:|<link[^>]*rel=\"?stylesheet[^>]*https?:|@import")
    assert not [page for page in pages if wanted.search(page.read_text(encoding="utf-8"))]


def test_pages_opened_as_files_can_be_searched(site: Path, tmp_path: Path) -> None:
    harness = site / "searching.html"
    harness.write_text(SEARCHING)
    found = re.search("<body>found ([^<]*)", find_browser(tmp_path).dump(harness))
    assert found is not None and "operators.html#centroidgemm" in found[1]


def test_links_lead_to_the_pages_of_the_site_or_are_plain_words() -> None:
    known = {"index.md", "gpu.md", "results/training.md", "results/a.svg"}
    here = "[a](docs/gpu.md#x) ![b](docs/results/a.svg) [c](docs/results/) [d](Makefile) [e](https://e.org) `[f](g)`\n"
    expected = "[a](gpu.md#x) ![b](results/a.svg) c d [e](https://e.org) `[f](g)`\n"
    assert site_links(here, "index.md", known) == expected
    assert site_links("[`h`](docs/gpu.md) [`i`](Makefile)", "index.md", known) == "[`h`](gpu.md) `i`"
    there = "```\n[a](../../none)\n```\n[b](../../README.md#it) [c](../gpu.md) [d](#own) [e](../../tools/demo.py)\n"
    expected = "```\n[a](../../none)\n```\n[b](../index.md#it) [c](../gpu.md) [d](#own) e\n"
    assert site_links(there, "results/training.md", known) == expected
