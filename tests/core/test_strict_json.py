"""JSON that everybody reads alike."""

from __future__ import annotations

import pytest

from lro_aio.core.strict_json import loads


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        (b'{"a": [1, 0.5, "\xc3\xa9"]}', {"a": [1, 0.5, "é"]}),
        ('"\\ud83d\\ude00"', "😀"),
        ("123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_what_json_has_is_read_exactly(text: str | bytes, value: object) -> None:
    assert loads(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "'a'",
        "NaN",
        "-Infinity",
        "1e999",
        '{"a": 1, "a": 1}',
        '[{"b": {"a": 1, "a": 2}}]',
        '"\\ud800"',
        '{"\\udfff": 1}',
        b"\xff",
        "1" * 5000,
    ],
)
def test_what_others_may_read_otherwise_is_no_json(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(text)


def test_what_is_nested_too_deeply_is_told() -> None:
    with pytest.raises(RecursionError):
        loads("[" * 100_000)
