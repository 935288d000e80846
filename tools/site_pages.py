"""What mkdocs.yml needs besides: pages from outside docs/, and links that lead somewhere from the site, too.

A page links to files as the repository has them, so that it can be read there. On the site, links to pages lead to the
pages, and of a link to any other file only the words are left.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
DOCS = "docs"
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "models/README.md": "networks.md",
}
"""Pages outside docs/, by their path in the repository, and where the site has them."""
SOURCES = {page: source for source, page in OUTSIDE.items()}
CODE_OR_LINK = re.compile(
    r"^```.*?^```|^    .*?$|`[^`\n]+`|(?P<image>!?)\[(?P<words>[^\]]*)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)",
    re.MULTILINE | re.DOTALL,
)
"""What begins with code is left as it is; the words of a link may be code."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leaves out of the navigation what this checkout has no page for (mkdocs calls this)."""
    config.nav = [entry for entry in config.nav or [] if not _is_missing(entry)]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages from outside docs/ that there are (mkdocs calls this)."""
    from mkdocs.structure.files import File

    for source, page in OUTSIDE.items():
        if (ROOT / source).is_file():
            files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Returns a page's text with the site's links (mkdocs calls this)."""
    return site_links(markdown, page.file.src_uri, {file.src_uri for file in files})


def site_links(markdown: str, page: str, known: set[str]) -> str:
    """Returns the text with links as the site's page `page` needs them; `known` are the files of the site."""
    source = SOURCES.get(page, posixpath.join(DOCS, page))

    def follow(match: re.Match[str]) -> str:
        image, words, target, anchor = match.group("image", "words", "target", "anchor")
        if target is None:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        there = OUTSIDE.get(path, posixpath.relpath(path, DOCS))
        if there not in known:
            return str(words)
        return f"{image}[{words}]({posixpath.relpath(there, posixpath.dirname(page) or '.')}{anchor or ''})"

    return CODE_OR_LINK.sub(follow, markdown)


def _is_missing(entry: dict[str, Any]) -> bool:
    [page] = entry.values()
    return isinstance(page, str) and not (ROOT / SOURCES.get(page, posixpath.join(DOCS, page))).is_file()
