"""Promises of page tokens and page sizes."""

from __future__ import annotations

import base64
import re
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lro_aio.core import pages
from lro_aio.core.errors import InvalidPageTokenError

CURSOR = (1_700_000_000.123456, "projects/p/operations/0d7f2c1e-3b7a-4a58-9d0c-1f2e3a4b5c6d")
ARGUMENTS = ("projects/p", "done=true")
TOKEN = pages.encode(CURSOR, ARGUMENTS)

times = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(min_size=1, max_size=100)
arguments = st.lists(st.text(max_size=30), max_size=3)


@given(st.tuples(times, names), arguments)
@settings(max_examples=150)
def test_a_token_gives_back_the_cursor_that_made_it(cursor: tuple[float, str], given_arguments: list[str]) -> None:
    token = pages.encode(cursor, given_arguments)
    assert pages.decode(token, given_arguments) == cursor
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)


def test_the_longest_name_makes_a_token_that_is_taken_back() -> None:
    cursor = (0.0, "x" * 512)
    assert pages.decode(pages.encode(cursor, ARGUMENTS), ARGUMENTS) == cursor


def test_a_token_survives_a_change_of_page_size_and_of_process() -> None:
    """The page size is no part of it, and nothing in it depends on the process that made it."""
    assert pages.encode(CURSOR, list(ARGUMENTS)) == TOKEN
    assert TOKEN == (
        "AfDVVq9ywTc1V644ZkfbpUvMyq_1zzN_kS-bTKSt83J4bDwb6Qty_LjZYCZAP7VdO8geLLZNtQqx9Y8y_1PJCGKbXp"
        "7m_CLjvDBGTxFP6bVvyys"
    )


def test_a_token_is_not_readable() -> None:
    data = base64.urlsafe_b64decode(TOKEN + "=" * (-len(TOKEN) % 4))
    for part in (CURSOR[1], "projects", "operations", "done"):
        assert part not in TOKEN
        assert part.encode() not in data


def test_every_alteration_of_one_character_is_refused() -> None:
    """Also of the last one, whose spare bits a decoder passes over."""
    alphabet = string.ascii_letters + string.digits + "-_=+/. \n%é"
    for at, old in enumerate(TOKEN):
        for new in alphabet:
            if new != old:
                with pytest.raises(InvalidPageTokenError):
                    pages.decode(TOKEN[:at] + new + TOKEN[at + 1 :], ARGUMENTS)


@given(names, st.data())
@settings(max_examples=150)
def test_tokens_of_any_length_are_refused_when_altered(name: str, data: st.DataObject) -> None:
    token = pages.encode((1.5, name), ARGUMENTS)
    at = data.draw(st.integers(0, len(token) - 1))
    kind = data.draw(st.sampled_from(["change", "insert", "drop", "cut"]))
    new = data.draw(st.characters(exclude_characters=token[at]))
    altered = {
        "change": token[:at] + new + token[at + 1 :],
        "insert": token[:at] + new + token[at:],
        "drop": token[:at] + token[at + 1 :],
        "cut": token[:at],
    }[kind]
    with pytest.raises(InvalidPageTokenError):
        pages.decode(altered, ARGUMENTS)


@pytest.mark.parametrize(
    "other",
    [
        ("projects/q", "done=true"),
        ("projects/p", "done=false"),
        ("projects/p", ""),
        ("projects/p",),
        ("projects/p", "done=true", ""),
        ("done=true", "projects/p"),
        ("projects/pdone=true", ""),
        ("projects/p\0done=true",),
        (),
    ],
)
def test_a_token_for_other_arguments_is_refused_and_the_error_says_so(other: tuple[str, ...]) -> None:
    with pytest.raises(InvalidPageTokenError, match="another parent or filter"):
        pages.decode(TOKEN, other)


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda data: base64.urlsafe_b64encode(data).decode()))
@example("")
@example("=")
@example("A" * 5)
@example("\ud800")
@example("A" * 5000)
@settings(max_examples=150)
def test_foreign_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidPageTokenError):
        pages.decode(text, ARGUMENTS)


def test_a_token_of_another_version_is_refused_with_what_to_do() -> None:
    data = base64.urlsafe_b64decode(TOKEN + "=" * (-len(TOKEN) % 4))
    newer = base64.urlsafe_b64encode(b"\x02" + data[1:]).rstrip(b"=").decode()
    with pytest.raises(InvalidPageTokenError, match="start again from the first page"):
        pages.decode(newer, ARGUMENTS)


def test_a_cursor_that_is_no_time_is_refused() -> None:
    """A checksum keeps nobody from making a token; what comes out is still checked."""
    for moment in (float("nan"), float("inf")):
        with pytest.raises(InvalidPageTokenError):
            pages.decode(pages.encode((moment, "operations/a"), ARGUMENTS), ARGUMENTS)


@pytest.mark.parametrize(
    ("requested", "expected"), [(0, 50), (1, 1), (50, 50), (1000, 1000), (1001, 1000), (10**12, 1000)]
)
def test_page_size_takes_the_default_for_zero_and_the_maximum_above_it(requested: int, expected: int) -> None:
    assert pages.page_size(requested, default=50, maximum=1000) == expected


def test_a_default_above_the_maximum_is_clamped_too() -> None:
    assert pages.page_size(0, default=50, maximum=10) == 10


def test_a_negative_page_size_is_a_value_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="page_size must be 0 or more, not -1"):
        pages.page_size(-1, default=50, maximum=1000)


def test_a_page_size_that_is_no_whole_number_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="page_size must be a whole number, not float"):
        pages.page_size(1.5, default=50, maximum=1000)  # type: ignore[arg-type]  # what the test is about
