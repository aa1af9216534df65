"""``lro`` against a real server process and against its store: what it prints, and what it exits with."""

import json

import pytest


def lines_of(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


KINDS = ("--server", "--store", "--url")


def number_of(where, first):
    """The gate that a test uses up in this place."""
    return first + 12 * KINDS.index(where[0])


def problem_of(result):
    """The one sentence on the error output."""
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("lro: ")
    return line


class TestGet:
    def test_json_is_one_operation_on_one_line(self, lro, where):
        result = lro("get", "operations/done", "--json", *where)
        assert result.exit_code == 0
        assert lines_of(result) == [
            {
                "name": "operations/done",
                "done": True,
                "response": {"@type": "type.googleapis.com/google.protobuf.Int64Value", "value": "7"},
            }
        ]

    def test_a_bare_id_means_the_top_level(self, lro, where):
        assert lro("get", "done", "--json", *where).stdout == lro("get", "operations/done", "--json", *where).stdout
        assert lro("get", "projects/p/operations/elsewhere", *where).exit_code == 0

    def test_a_failed_operation_is_shown_and_is_no_failure_of_get(self, lro, where):
        result = lro("get", "failed", "--json", *where)
        assert result.exit_code == 0
        (shown,) = lines_of(result)
        assert shown["error"]["code"] == 8
        assert shown["error"]["message"] == "the disk is full [red]"
        assert shown["error"]["details"][0]["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("done", ["succeeded", '"value": "7"']),
            ("failed", ["failed: RESOURCE_EXHAUSTED", "the disk is full [red]"]),
            ("cancelled", ["cancelled"]),
            ("gate-0", ["running", "50% half [bold]way[/] ?[31m"]),
        ],
    )
    def test_people_see_what_became_of_it(self, lro, where, name, words):
        """Square brackets of a message are text, and its escape sequences do not reach the terminal."""
        result = lro("get", name, *where)
        assert result.exit_code == 0
        assert f"operations/{name}" in result.stdout
        assert all(word in result.stdout for word in words)
        assert "\x1b" not in result.stdout

    def test_payloads_of_unknown_types_are_shown_as_bytes(self, lro, where):
        unknown = {"@type": "type.googleapis.com/tests.Unknown", "value": "CAU="}
        (shown,) = lines_of(lro("get", "strange", "--json", *where))
        assert shown == {"name": "operations/strange", "done": True, "metadata": unknown, "response": unknown}
        assert "tests.Unknown" in lro("get", "strange", *where).stdout

    def test_a_progress_that_is_no_number_is_not_shown(self, lro, where):
        result = lro("get", "nan", *where)
        assert result.exit_code == 0
        assert "progress " not in result.stdout


class TestList:
    def test_newest_first_one_json_object_per_line(self, lro, where):
        names = [shown["name"] for shown in lines_of(lro("list", "--json", "--limit", "0", *where))]
        assert names.index("operations/gate-3") < names.index("operations/done")
        assert "projects/p/operations/elsewhere" in names, "of every parent"

    def test_the_top_level_is_a_parent_too(self, lro, where):
        names = [shown["name"] for shown in lines_of(lro("list", "--json", "--parent", "operations", *where))]
        assert "operations/done" in names
        assert "projects/p/operations/elsewhere" not in names

    def test_parent_chooses_the_collection(self, lro, where):
        for parent in ("projects/p", "projects/p/operations"):
            shown = lines_of(lro("list", "--json", "--parent", parent, *where))
            assert [one["name"] for one in shown] == ["projects/p/operations/elsewhere"]

    def test_filter(self, lro, where):
        shown = lines_of(lro("list", "--json", "--filter", 'done = true AND handler = "broken"', *where))
        assert [one["name"] for one in shown] == ["operations/failed"]

    def test_limit_says_that_there_are_more(self, lro, where):
        result = lro("list", "--json", "--limit", "3", *where)
        assert len(lines_of(result)) == 3
        assert "more than 3" in result.stderr

    def test_a_table_for_people(self, lro, where):
        result = lro("list", *where)
        rows = {row.split()[0]: row for row in result.stdout.splitlines()}
        assert "NAME" in rows
        assert "succeeded" in rows["operations/done"]
        assert "failed: RESOURCE_EXHAUSTED" in rows["operations/failed"]
        assert "the disk is full [red]" in rows["operations/failed"]
        assert "50%" in rows["operations/gate-4"]

    def test_none_is_said_on_the_error_output(self, lro, where):
        result = lro("list", "--parent", "projects/none", *where)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "no operations" in result.stderr


class TestWait:
    @pytest.mark.parametrize(("name", "code"), [("done", 0), ("failed", 1), ("cancelled", 1)])
    def test_the_exit_code_says_how_it_ended(self, lro, where, name, code):
        result = lro("wait", name, "--json", *where)
        assert result.exit_code == code
        assert lines_of(result)[0]["done"] is True

    def test_it_returns_when_the_operation_ends(self, lro, site, where):
        number = number_of(where, 1)
        site.open_gate(number, after=1.0)
        result = lro("wait", f"gate-{number}", "--timeout", "20", "--json", *where)
        assert result.exit_code == 0
        assert lines_of(result)[0]["response"]["value"] == "opened"

    def test_a_timeout_shows_the_state_and_exits_with_4(self, lro, where):
        result = lro("wait", "gate-0", "--timeout", "0.3", "--json", *where)
        assert result.exit_code == 4
        assert lines_of(result)[0]["metadata"]["value"]["progress"] == 0.5
        assert result.stderr.startswith("lro: operations/gate-0 has not ended within 0.3 s")


class TestWatch:
    def test_json_lines_from_now_to_the_end(self, lro, site, where):
        number = number_of(where, 5)
        site.open_gate_once_shown(number)
        result = lro("watch", f"gate-{number}", "--json", *where)
        shown = lines_of(result)
        assert result.exit_code == 0
        assert "done" not in shown[0]
        assert shown[0]["metadata"]["value"]["progress"] == 0.5
        assert shown[-1]["response"]["value"] == "opened"
        assert all("done" not in one for one in shown[:-1])

    def test_lines_without_a_terminal(self, lro, site, where):
        number = number_of(where, 7)
        site.open_gate_once_shown(number)
        result = lro("watch", f"gate-{number}", *where)
        assert result.exit_code == 0
        assert result.stdout.splitlines()[0] == "running  50%  half [bold]way[/] ?[31m"
        assert "succeeded" in result.stdout.splitlines()

    def test_a_failed_operation_exits_with_1(self, lro, where):
        assert lro("watch", "failed", *where).exit_code == 1


class TestHistory:
    def test_people_see_what_happened_oldest_first(self, lro, site):
        result = lro("history", "failed", *site.at("store"))
        assert result.exit_code == 0
        heading, *lines = result.stdout.splitlines()
        assert heading.split() == ["TIME", "WHAT", "NAME", "DETAILS"]
        assert [line.split()[1] for line in lines] == ["CREATED", "CLAIMED", "FAILED"]
        assert lines[0].split()[2] == "broken"
        assert lines[-1].endswith("RESOURCE_EXHAUSTED OPERATION_FAILED: the disk is full [red]")

    def test_json_is_one_entry_on_each_line(self, lro, site):
        created, claimed, ended = lines_of(lro("history", "operations/done", "--json", *site.at("store")))
        assert (created["kind"], created["name"]) == ("CREATED", "quick")
        assert claimed["kind"] == "CLAIMED"
        assert ended.keys() == {"time", "kind"}
        assert created["time"] <= ended["time"]
        assert created["time"].endswith("Z")

    def test_an_unknown_name_is_3(self, lro, site):
        result = lro("history", "nope", *site.at("store"))
        assert result.exit_code == 3
        assert problem_of(result) == "lro: operation 'operations/nope' does not exist"

    def test_without_a_store_it_says_so(self, lro):
        assert problem_of(lro("history", "done")) == "lro: say which store: --store URL; or set LRO_STORE"


class TestCancelAndDelete:
    def test_cancel_a_running_operation(self, lro, where):
        number = number_of(where, 9)
        result = lro("cancel", f"gate-{number}", *where)
        assert (result.exit_code, result.stdout) == (0, f"operations/gate-{number}: cancel requested\n")
        (shown,) = lines_of(lro("wait", f"gate-{number}", "--timeout", "20", "--json", *where))
        assert shown["error"]["code"] == 1

    def test_cancel_of_a_finished_operation_changes_nothing(self, lro, where):
        assert lro("cancel", "done", *where).exit_code == 0
        assert lines_of(lro("get", "done", "--json", *where))[0]["response"]["value"] == "7"

    def test_delete_forgets(self, lro, where):
        number = KINDS.index(where[0])
        assert lro("delete", f"spare-{number}", *where).exit_code == 0
        assert lro("get", f"spare-{number}", *where).exit_code == 3

    def test_of_several_names_a_bad_one_stops_nothing(self, lro, site):
        result = lro("delete", "nope", "spare-3", *site.at("store"))
        assert result.exit_code == 3
        assert result.stdout == "operations/spare-3: deleted\n"
        assert result.stderr == "lro: operation 'operations/nope' does not exist\n"


class TestProblems:
    @pytest.mark.parametrize("verb", ["get", "wait", "watch", "cancel", "delete"])
    def test_an_unknown_name_is_3(self, lro, where, verb):
        result = lro(verb, "nope", *where)
        assert result.exit_code == 3
        assert problem_of(result) == "lro: operation 'operations/nope' does not exist"

    @pytest.mark.parametrize("verb", ["get", "wait", "watch", "cancel", "delete"])
    def test_a_malformed_name_is_2(self, lro, where, verb):
        result = lro(verb, "no/such/thing", *where)
        assert result.exit_code == 2
        assert "'no/such/thing'" in problem_of(result)

    def test_a_malformed_filter_is_2_and_says_where(self, lro, where):
        result = lro("list", "--filter", "done = (", *where)
        assert result.exit_code == 2
        assert "position" in problem_of(result)
