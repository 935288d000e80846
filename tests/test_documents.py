"""What holds for every page of documentation: lines that can be read, links that lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.cpp_build import ROOT
from tools.pages import COLUMNS

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PAGE_NAME = re.compile(r"`([\w./-]+\.md)`")
REFERENCE = re.compile(r"\b(docs/[\w/-]+\.md)(?:, ([A-Z][\w ]*\w|`\w+`))?")
"""How sources refer to a page, and to a section of it: docs/operators.md, Hash."""
SOURCES = {".cc", ".cmake", ".cu", ".h", ".html", ".py", ".toml"}
FOLDERS = ("custom_ops", "docs", "models", "reuse_compiler", "tests", "tools")


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])


PAGES = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))


def text_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yields the number and the words of every line that is not code."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield number, line


def long_lines(text: str) -> list[int]:
    """Returns the numbers of the lines of prose that are too long: rows of tables, links and code are not prose."""
    return [
        number
        for number, line in text_lines(text)
        if len(line) > COLUMNS and not line.startswith("|") and len(LINK.sub("", line)) > COLUMNS
    ]


def headings(text: str) -> list[str]:
    return [line.lstrip("#").strip() for _, line in text_lines(text) if re.match(r"#+ ", line)]


def anchors(text: str) -> set[str]:
    """Returns the names by which links reach a page's headings, made as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(text)}


def broken_links(page: Path, text: str) -> list[str]:
    """Returns what a page links to, or names as a page of the repository, that is not there."""
    words = "\n".join(line for _, line in text_lines(text))
    broken = []
    for target in LINK.findall(words):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        file = page.parent / path if path else page
        found = file.resolve().is_relative_to(ROOT) and file.exists()
        if found and anchor:
            found = anchor in anchors(text if file == page else file.read_text(encoding="utf-8"))
        if not found:
            broken.append(target)
    named = [name for name in PAGE_NAME.findall(words) if "/" in name]
    return broken + [name for name in named if not any((base / name).exists() for base in (ROOT, page.parent))]


def dangling(text: str) -> list[str]:
    """Returns the references in a source to pages or sections of documentation that are not there."""
    found = []
    for match in REFERENCE.finditer(text):
        page, section = ROOT / match[1], match[2]
        known = headings(page.read_text(encoding="utf-8")) if page.is_file() else None
        if known is None or (section and not any(section in heading for heading in known)):
            found.append(match[0])
    return found


@PAGES
def test_lines_of_prose_are_short(page: Path) -> None:
    assert not long_lines(page.read_text(encoding="utf-8")), f"lines of more than {COLUMNS} columns"


@PAGES
def test_links_lead_to_files_of_the_repository(page: Path) -> None:
    assert not broken_links(page, page.read_text(encoding="utf-8"))


def test_sources_refer_to_pages_and_sections_that_are_there() -> None:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SOURCES]
    found = {path: dangling(path.read_text(encoding="utf-8")) for path in paths if path != Path(__file__)}
    assert found and not {path: names for path, names in found.items() if names}


def test_dangling_references_are_found() -> None:
    there = "(docs/operators.md, Hash), docs/operators.md, `mix`: docs/gpu.md says"
    assert not dangling(there)
    assert dangling("docs/nowhere.md, Hash; docs/operators.md, Nothing") == [
        "docs/nowhere.md, Hash",
        "docs/operators.md, Nothing",
    ]


def test_long_lines_are_found_in_prose_only() -> None:
    long = "word " * 30
    text = f"short\n{long}\n| {long} |\n    {long}\n```\n{long}\n```\n* {long}\n[words]({'a' * 120})\n"
    assert long_lines(text) == [2, 8]


def test_broken_links_are_found() -> None:
    text = "# A heading: here\n[a](#a-heading-here) [b](#there) [c](CONTRIBUTING.md) [d](nowhere.md) `docs/nowhere.md`"
    text += " [e](https://example.org) [f](../outside.md) [g](docs/gpu.md#nowhere) `docs/gpu.md`\n    [code](none.md)\n"
    page = ROOT / "README.md"
    assert broken_links(page, text) == [
        "#there",
        "nowhere.md",
        "../outside.md",
        "docs/gpu.md#nowhere",
        "docs/nowhere.md",
    ]
