"""Names: what is one, what is not, and ids that come out the same for ever."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from lro_aio.core import names
from lro_aio.core.errors import InvalidOperationNameError

segments = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~:@-]{0,20}", fullmatch=True).filter(lambda s: s != "operations")
ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", fullmatch=True)


@pytest.mark.parametrize(
    ("name", "parent", "identifier"),
    [
        ("operations/a", "", "a"),
        ("projects/p/locations/l/operations/a-1", "projects/p/locations/l", "a-1"),
        ("projects/example.com:p/operations/A_b.c~d", "projects/example.com:p", "A_b.c~d"),
        ("operations/a/operations/b", "operations/a", "b"),
    ],
)
def test_a_name_has_an_id_and_any_parent(name: str, parent: str, identifier: str) -> None:
    parsed = names.parse(name)
    assert (parsed.parent, parsed.id) == (parent, identifier)
    assert str(parsed) == name


@pytest.mark.slow
@given(st.lists(segments, max_size=5), ids)
@settings(max_examples=100, deadline=None)
def test_every_name_that_can_be_made_can_be_read(parents: list[str], identifier: str) -> None:
    parent = names.parse_parent("/".join(parents))
    name = str(names.OperationName(parent, names.check_id(identifier)))
    assert names.parse(name) == (parent, identifier)


@pytest.mark.parametrize(
    "name",
    [
        "", "a", "operations", "operations/", "/operations/a", "operations/a/", "operations//a", "Operations/a",
        "projects/p", "projects//operations/a", "jobs/a", "operations/a b", "operations/a:cancel", "operations/-a",
        "operations/a\n", "operations/é", "operations/..", "../operations/a", "-/operations/a",
        "projects/-/operations/a",
        "operations/" + "a" * 129, "p/" * 300 + "operations/a", "operations/a?x=1", "operations/a#b", "operations/\0",
        "operations/\udcff", "operations/a%2Fb",
    ],
)  # fmt: skip
@pytest.mark.parametrize("check", [names.parse, names.check])
def test_anything_else_is_refused_with_the_name_in_the_error(check: Callable[[str], Any], name: str) -> None:
    with pytest.raises(InvalidOperationNameError) as caught:
        check(name)
    assert caught.value.name == name[: names.MAX_NAME]
    assert "expected 'operations/{id}'" in str(caught.value)


@pytest.mark.parametrize("name", [None, 7, b"operations/a"])
def test_what_is_not_text_is_not_a_name(name: object) -> None:
    with pytest.raises(InvalidOperationNameError):
        names.parse(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_parent", "normal"),
    [
        ("", ""),
        ("operations", ""),
        ("projects/p", "projects/p"),
        ("projects/p/operations", "projects/p"),
        ("-", "-"),
        ("-/operations", "-"),
    ],
)
def test_a_collection_can_be_named_with_and_without_its_last_segment(given_parent: str, normal: str) -> None:
    assert names.parse_parent(given_parent) == normal


@pytest.mark.parametrize("parent", ["/", "a/", "/a", "a//b", "a b", "-/b", "a/-", "é", "a" * 500, "operations/"])
def test_a_malformed_parent_is_refused(parent: str) -> None:
    with pytest.raises(InvalidOperationNameError):
        names.parse_parent(parent)


def test_the_longest_parent_leaves_room_for_the_longest_id() -> None:
    """Otherwise an operation could be made that nobody can ask for."""
    longest = names.parse_parent("a" * names.MAX_PARENT)
    name = str(names.OperationName(longest, "i" * 128))
    assert len(name) == names.MAX_NAME
    assert names.parse(name).id == "i" * 128
    with pytest.raises(InvalidOperationNameError):
        names.parse_parent("a" * (names.MAX_PARENT + 1))


@pytest.mark.parametrize("identifier", ["", "a b", "a/b", ".a", "a" * 129, "a:b", "ä", "a\n"])
def test_an_id_of_the_caller_is_a_value_error_where_it_is_no_id(identifier: str) -> None:
    with pytest.raises(ValueError, match="1 to 128 letters"):
        names.check_id(identifier)


def test_ordered_ids_are_uuid7s_of_their_time_and_sort_by_it() -> None:
    moments = [0.0, 1.0, 1764.2, 1_764_293_799.123, 1_764_293_799.124, 2.0**38]
    made = [names.ordered_id(moment) for moment in moments]
    assert made == sorted(made)
    for moment, identifier in zip(moments, made, strict=True):
        parsed = uuid.UUID(identifier)
        assert (str(parsed), parsed.version, parsed.variant) == (identifier, 7, uuid.RFC_4122)
        assert parsed.int >> 80 == int(moment * 1000)
        assert names.check_id(identifier) == identifier
    assert len({names.ordered_id(1.0) for _ in range(1000)}) == 1000


def test_new_ids_are_random_uuid4s() -> None:
    made = {names.new_id() for _ in range(100)}
    assert len(made) == 100
    assert all(uuid.UUID(identifier).version == 4 for identifier in made)
    assert all(names.check_id(identifier) for identifier in made)


def test_derived_ids_never_change_between_releases() -> None:
    """Golden values: a repeat that arrives after a deploy must find the operation, and a parent its children."""
    assert names.request_id("projects/p", "copy", "r-1") == "f2864bf8-cfbd-533b-851d-f77b32d6616d"
    assert names.child_id("u-1", "page-0") == "7c6e13d0-cd6a-5e18-a6fd-96ccb3c0df8c"


def test_every_part_of_a_request_counts() -> None:
    base = ("p", "h", "r")
    variants = {base, ("q", "h", "r"), ("p", "i", "r"), ("p", "h", "s"), ("", "h", "r"), ("p", "", "r")}
    assert len({names.request_id(*variant) for variant in variants}) == len(variants)
    assert names.request_id(*base) == names.request_id(*base)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", names.request_id(*base))


@pytest.mark.parametrize("request_id", ["", "a" * 129, "é", "a\nb", "a\x7f"])
def test_a_request_id_is_1_to_128_printable_ascii_characters(request_id: str) -> None:
    assert names.request_id("", "h", " ~" * 64)
    with pytest.raises(ValueError, match="1 to 128 printable ASCII"):
        names.request_id("", "h", request_id)


def test_children_differ_by_parent_and_key() -> None:
    made = {names.child_id(uid, key) for uid in ("u1", "u2") for key in ("a", "b", "a\nb", "über")}
    assert len(made) == 8
    with pytest.raises(ValueError, match="key must not be empty"):
        names.child_id("u1", "")


FORK = """
import os
from lro_aio.core import names
names.new_id()  # fills the block
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, names.new_id().encode())
    os._exit(0)
os.wait()
assert os.read(read, 100).decode() not in {names.new_id() for _ in range(300)}
"""


@pytest.mark.slow
def test_a_forked_child_draws_other_ids_than_its_parent() -> None:
    """Ids are drawn from a block of randomness: a fork must not leave the same block to both."""
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=30)


def test_ids_are_random_uuids() -> None:
    drawn = {names.new_id() for _ in range(1000)}
    assert len(drawn) == 1000
    assert {uuid.UUID(text).version for text in drawn} == {4}
