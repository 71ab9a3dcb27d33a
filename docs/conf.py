# ruff: noqa: INP001
"""Configuration of Sphinx. ``make docs`` builds the site into ``docs/_build/html``."""

from __future__ import annotations

import sys
from pathlib import Path

from pygments.lexers.data import JsonLexer
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))
import generate

import rewardkit

project = "rewardkit"
author = "The rewardkit developers"
copyright = author  # noqa: A001 - the name that Sphinx reads
release = version = rewardkit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 4
suppress_warnings = ["ref.python"]  # a word in an attribute's docstring that several classes have as an attribute

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False
default_role = "code"
napoleon_numpy_docstring = False
napoleon_custom_sections = []

html_theme = "furo"
html_title = f"rewardkit {release}"
html_static_path = ["_static"]
html_css_files = ["extra.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": "https://github.com/rewardkit/rewardkit/",
    "source_branch": "main",
    "source_directory": "docs/",
}
pygments_style = "tango"
pygments_dark_style = "monokai"


def _fill_in(_app: Sphinx, _page: str, source: list[str]) -> None:
    source[0] = generate.fill_in(source[0])


def setup(app: Sphinx) -> None:
    """Have the generated parts of every page filled in when Sphinx reads it."""
    app.add_lexer("jsonl", JsonLexer)
    app.connect("source-read", _fill_in)
