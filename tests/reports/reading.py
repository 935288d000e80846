"""A page as a strict reader sees it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Reads a page strictly: every element closed in order; keeps attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all_of(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]

    @property
    def attributes(self) -> list[tuple[str, str, str]]:
        return [(tag, name, value) for tag, attributes in self.tags for name, value in attributes.items()]

    @property
    def text(self) -> str:
        return " ".join(" ".join(text for where, text in self.texts if where != "style").split())

    def check(self) -> None:
        """Asserts what holds for every page: it asks for nothing, runs nothing, and can be read by everyone."""
        ids = [value for _, name, value in self.attributes if name == "id"]
        assert len(ids) == len(set(ids)), "an id occurs twice"
        for _, name, value in self.attributes:
            if name in ("href", "src"):
                assert re.match(r"data:image/(png|svg\+xml);base64,", value), value
        assert not re.search(r"<script|<link|@import|url\(", self.source)
        policies = [value for _, name, value in self.attributes if name == "content" and "src" in value]
        assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
        for tag, attributes in self.tags:
            assert tag != "img" or attributes["alt"], "an image without words for it"
            assert tag != "th" or attributes["scope"] in ("row", "col")
        assert [tag for tag, _ in self.tags].count("h1") == 1
