"""Pages of reports: self-contained HTML from the templates beside this file, which share base.html and style.css."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reuse_compiler.errors import OutputError

TEMPLATES = Path(__file__).with_name("templates")


def check_extra() -> None:
    """Raises OutputError if pages and figures cannot be made here; to be called before long work that ends in one."""
    try:
        import jinja2  # noqa: F401
        import matplotlib.backends.backend_svg  # noqa: F401
    except ImportError as error:
        raise OutputError(
            f"figures and pages need Jinja2 and matplotlib, and {error.name} is missing: "
            "`pip install 'reuse-compiler[report]'`, or do without the report"
        ) from error


def render(template: Path, **values: Any) -> str:
    """Returns the page; `values` are escaped wherever they stand in it. Raises OutputError without Jinja2."""
    check_extra()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template.name).render(values)
