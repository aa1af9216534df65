"""Functions that are written out at import."""

from __future__ import annotations

import traceback

import pytest

from lro_aio.core.codegen import compiled
from lro_aio.core.record import Record, State


def test_the_functions_know_each_other_and_the_names_they_were_given() -> None:
    functions = compiled(__name__, ["def one():", "    return two() + step", "def two():", "    return 2"], {"step": 5})
    assert functions["one"]() == 7
    assert functions["one"].__module__ == __name__


def test_a_traceback_shows_the_line_that_failed() -> None:
    functions = compiled(__name__, ["def fail(x):", "    y = x", "    return y.missing"], {})
    with pytest.raises(AttributeError) as caught:
        functions["fail"](1)
    assert "return y.missing" in "".join(traceback.format_exception(caught.value))


def test_a_copy_that_fails_names_the_field_that_a_row_lacks() -> None:
    """Here a row that was made without its constructor, and has no name."""
    with pytest.raises(AttributeError, match="name") as caught:
        Record.evolve(object.__new__(Record), state=State.FAILED)
    assert "draft.name = record.name" in "".join(traceback.format_exception(caught.value))
