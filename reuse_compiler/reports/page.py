"""Pages from Jinja2 templates: self-contained HTML, whose templates share base.html and style.css, and Markdown."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from reuse_compiler.errors import OutputError

TEMPLATES = Path(__file__).with_name("templates")


def check_extra() -> None:
    """Raises OutputError if pages and figures cannot be made here; to be called before long work that ends in one."""
    _require("jinja2", "matplotlib.backends.backend_svg")


def _require(*modules: str) -> None:
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError as error:
        raise OutputError(
            f"figures and pages need Jinja2 and matplotlib, and {error.name} is missing: "
            "`pip install 'reuse-compiler[report]'`, or do without the report"
        ) from error


def render(template: Path, **values: Any) -> str:
    """Returns the page; in HTML `values` are escaped wherever they stand. Raises OutputError without Jinja2."""
    _require("jinja2")
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=template.suffix == ".html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template.name).render(values)
