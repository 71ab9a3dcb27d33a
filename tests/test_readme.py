"""The README is short, and its links work wherever it is shown. What it shows is run by ``tests/docs/test_pages.py``."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_it_is_short():
    """The README has at most 120 lines."""
    assert len(README.splitlines()) <= 120


def test_links_are_absolute():
    """Every link also works on a package index, where there is no repository beside the text."""
    links = re.findall(r"\]\(([^)]+)\)", README)

    assert len(links) >= 4
    assert [link for link in links if not link.startswith("https://")] == []
