"""``lro send``: messages to operations, in a store and over HTTP."""

import pytest

from .test_commands import lines_of, problem_of

HEARS = "inbox/operations/hears-0"
HTTP_AND_STORE = ("store", "url", "azure")


@pytest.fixture(params=HTTP_AND_STORE)
def where(request, site):
    return site.at(request.param)


def nth(where):
    """Which of the three places it is: each has operations of its own."""
    return HTTP_AND_STORE.index("azure" if "azure" in where else where[0].removeprefix("--"))


def test_a_message_ends_the_wait_for_it(lro, where, site):
    name = f"inbox/operations/asks-{nth(where)}"
    result = lro("send", name, "approval", '{"ok": true, "who": "Ada"}', *where)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{name}: sent\n", "")
    ended = lro("wait", name, "--timeout", "20", "--json", *site.at("store"))
    assert lines_of(ended)[0]["response"]["value"] == {"ok": True, "who": "Ada"}


@pytest.mark.parametrize(("given", "text"), [("7", "7"), ("-5", "-5"), ("-", "[1,2]"), (None, None)])
def test_the_payload_is_json_or_the_input_or_nothing(lro, where, site, given, text):
    name, topic = f"inbox/operations/hears-{nth(where)}", f"note-{given}"
    sent = lro("send", name, topic, *([] if given is None else [given]), "--json", *where, stdin="[1, 2]\n")
    assert (sent.exit_code, sent.stdout, sent.stderr) == (0, "", "")
    told = lines_of(lro("history", name, "--json", *site.at("store")))
    assert [entry.get("text") for entry in told if entry.get("name") == topic] == [text]


def test_the_same_message_id_is_one_message(lro, where, site):
    name = f"inbox/operations/hears-{nth(where)}"
    for _ in range(2):
        assert lro("send", name, "once", "1", "--message-id", "a", *where).exit_code == 0
    told = lro("history", name, "--json", *site.at("store")).stdout.splitlines()
    assert len([line for line in told if '"name": "once"' in line]) == 1


@pytest.mark.parametrize("text", ["yes", "{", "NaN", "1e999", "", '"\\ud800"', '{"a": 1, "a": 2}', "[" * 100_000])
def test_what_is_not_json_is_2_and_is_not_sent(lro, where, text):
    result = lro("send", HEARS, "note", text, *where)
    assert result.exit_code == 2
    assert problem_of(result).startswith("lro: the message is not JSON: ")


def test_a_word_without_quotes_is_explained(lro, where):
    assert problem_of(lro("send", HEARS, "note", "yes", *where)).endswith("for a text, write '\"yes\"'")


def test_what_is_nested_too_deeply_to_be_kept_is_2(lro, where):
    assert lro("send", HEARS, "note", "[" * 600 + "]" * 600, *where).exit_code == 2


def test_an_unknown_option_is_2_and_is_not_sent(lro, where):
    assert lro("send", HEARS, "note", "1", "--mesage-id", "a", *where).exit_code == 2
    assert lro("send", HEARS, "note", "--nonsense", *where).exit_code == 2


def test_a_malformed_topic_or_id_is_2(lro, where):
    assert lro("send", HEARS, "", "1", *where).exit_code == 2
    result = lro("send", HEARS, "note", "1", "--message-id", "x" * 257, *where)
    assert result.exit_code == 2
    assert "message_id must be 1 to 256 printable characters" in problem_of(result)


def test_an_ended_operation_is_6_and_an_unknown_one_3(lro, where):
    ended = lro("send", "done", "note", *where)
    assert ended.exit_code == 6
    assert "has already ended" in problem_of(ended)
    assert lro("send", "nope", "note", *where).exit_code == 3


def test_a_message_that_is_too_large_is_2(lro, where):
    result = lro("send", HEARS, "note", "-", *where, stdin='"' + "x" * 1_100_000 + '"')
    assert result.exit_code == 2
    assert "the limit is 1048576" in problem_of(result)


def test_over_grpc_there_is_no_such_call(lro, site):
    result = lro("send", HEARS, "note", *site.at("server"))
    assert result.exit_code == 2
    assert problem_of(result) == (
        "lro: messages are sent over HTTP or to a store: give --url http(s):// or --store URL"
    )
