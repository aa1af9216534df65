"""The picture of ``docs/steps.md``."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from .pages import REPOSITORY

DOCS = REPOSITORY / "docs"


def test_the_picture_needs_nothing_else_and_has_a_dark_side() -> None:
    """It is XML, has a size and a title, loads nothing, and follows the reader's colours."""
    root = ET.parse(DOCS / "steps.svg").getroot()
    assert {"viewBox", "width", "height"} <= set(root.keys())
    assert root.findtext("{http://www.w3.org/2000/svg}title")
    used = {element.tag.partition("}")[2] for element in root.iter()}
    assert used <= {"svg", "title", "style", "rect", "path", "text"}
    style = root.findtext("{http://www.w3.org/2000/svg}style") or ""
    assert "prefers-color-scheme: dark" in style
    assert "url(" not in style
    assert "(steps.svg)" in (DOCS / "steps.md").read_text("utf-8")
