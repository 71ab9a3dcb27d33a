"""Renders the HTML reports from Jinja templates.

A report is one file that loads nothing. Every value is escaped, so that text of a model or a data set can't become HTML, and the
page's content security policy forbids scripts and requests even if that failed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rewardkit.files import write_page as write_page_file

TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Render a template into a file.

    Args:
        path: The HTML file.
        template: The name of the template.
        values: The template's variables. Only ``markupsafe.Markup`` is inserted unescaped.

    Returns:
        ``path``.

    Raises:
        OutputError: The file can't be written.
    """
    page = environment().get_template(template).render(**values)
    write_page_file(path, page)
    return path


@cache
def environment() -> Environment:
    """Return the Jinja environment of the reports."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["plain"] = plain
    return found


def plain(value: Any) -> str:
    """Return any JSON value as text; chat messages as a dialogue."""
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "role" in item for item in value):
        return "\n\n".join(f"{item['role']}: {plain(item.get('content'))}" for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
