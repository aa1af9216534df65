"""The files that statements and migrations are in, wherever the package is."""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path

import pytest

from lro_aio.stores import _sql

FILES = {
    "__init__.py": "",
    "queries.sql": "-- :name one\n-- Why.\nSELECT 1;\n\n-- :name two\nSELECT 2;\n",
    "migrations/0001_first.sql": "CREATE TABLE a (b);",
    "migrations/0002_second.sql": "CREATE TABLE c (d);",
    "migrations/notes.txt": "",
}


@pytest.mark.parametrize("archived", [False, True])
def test_they_are_found_in_a_folder_and_in_an_archive(
    archived: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"statements_{archived}".lower()
    place = tmp_path / "app.zip" if archived else tmp_path
    if archived:
        with zipfile.ZipFile(place, "w") as archive:
            for name, text in FILES.items():
                archive.writestr(f"{package}/{name}", text)
    else:
        for name, text in FILES.items():
            file = tmp_path / package / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(place))
    importlib.import_module(package)
    assert _sql.statements(package) == {"one": "SELECT 1", "two": "SELECT 2"}
    assert _sql.migrations(package) == {1: "CREATE TABLE a (b);", 2: "CREATE TABLE c (d);"}
