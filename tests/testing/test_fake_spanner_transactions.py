"""Read-write transactions: serializable, aborted on conflict, replayed safely, committed with their token.

The first part runs against the official emulator as well; it has one transaction at a time and no precommit tokens, so
what follows is the fake's alone.
"""

import threading
import time

import pytest
from google.api_core import exceptions as errors
from google.cloud.spanner_v1 import types
from google.rpc import error_details_pb2

from ..waiting import PATIENCE
from .spanner_calls import BEGIN, write

WAIT = 5.0
AT_ONCE = 3.0
"""Seconds, far less than an idle transaction keeps its locks."""


def note(kind, name, number):
    return write(kind, "Notes", ["id", "number"], [name, number])


def number_of(spanner, name):
    [[found]] = spanner.rows("Notes", ["number"], name)
    return int(found)


def reading(spanner, *names, **rest):
    """Begin a transaction with a read of these rows."""
    return spanner.read("Notes", ["id", "number"], *names, transaction=BEGIN, **rest)


def let_it_wait(fake):
    """Return once a commit waits for a lock."""
    end = time.monotonic() + WAIT
    while fake.waiting < 1:
        assert time.monotonic() < end
        time.sleep(0.001)


class Background:
    """A call in a thread."""

    def __init__(self, call, *arguments, **rest):
        self.ended = threading.Event()
        self.result = None
        self.error = None
        self._thread = threading.Thread(target=self._run, args=(call, arguments, rest))
        self._thread.start()

    def _run(self, call, arguments, rest):
        try:
            self.result = call(*arguments, **rest)
        except Exception as exc:
            self.error = exc
        finally:
            self.ended.set()

    def join(self, timeout=WAIT):
        self._thread.join(timeout)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.result


# The fake and the emulator


def test_a_read_can_begin_a_transaction_that_commit_ends(spanner):
    begun = reading(spanner, "a")
    assert begun.metadata.transaction.id
    spanner.commit(begun, note("insert", "a", 1))
    assert number_of(spanner, "a") == 1


def test_nothing_is_visible_before_commit(spanner):
    begun = reading(spanner, "a")
    assert spanner.rows("Notes", ["id"], "a") == []
    spanner.rollback(begun.metadata.transaction.id)


def test_a_commit_that_is_sent_again_is_applied_once(spanner):
    begun = reading(spanner, "a")
    first = spanner.commit(begun, note("insert", "a", 1))
    again = spanner.commit(begun, note("insert", "a", 1))
    assert again.commit_timestamp == first.commit_timestamp
    assert number_of(spanner, "a") == 1


def test_a_rolled_back_transaction_leaves_nothing_and_cannot_commit(spanner, refused):
    begun = reading(spanner, "a")
    spanner.rollback(begun.metadata.transaction.id)
    spanner.rollback(begun.metadata.transaction.id)
    with refused(errors.FailedPrecondition, "Cannot commit a transaction after it has been rolled back"):
        spanner.commit(begun, note("insert", "a", 1))
    assert spanner.rows("Notes", ["id"], "a") == []


def test_a_committed_transaction_cannot_be_rolled_back(spanner, refused):
    begun = reading(spanner, "a")
    spanner.commit(begun)
    with refused(errors.FailedPrecondition, "Cannot rollback a transaction after it has been committed"):
        spanner.rollback(begun.metadata.transaction.id)


def test_an_unknown_transaction_is_not_found(spanner, refused):
    request = types.CommitRequest(session=spanner.session, transaction_id=b"123", mutations=[note("insert", "a", 1)])
    with refused(errors.NotFound, "Transaction not found: 123"):
        spanner.client.commit(request=request, retry=None, timeout=10)
    with refused(errors.NotFound, "Transaction not found: 123"):
        spanner.rollback(b"123")


def test_a_commit_needs_a_transaction(spanner, refused):
    with refused(errors.InvalidArgument, r"CommitRequest\.transaction"):
        spanner.client.commit(request=types.CommitRequest(session=spanner.session), retry=None, timeout=10)


def test_a_refused_commit_is_refused_again_the_same_way(spanner, refused):
    begun = reading(spanner, "a")
    for _ in range(2):
        with refused(errors.NotFound, "is missing"):
            spanner.commit(begun, note("update", "a", 1))
    spanner.rollback(begun.metadata.transaction.id)


# Conflicts, on the fake


def test_the_younger_of_two_transactions_in_conflict_is_aborted(connect):
    """Both read the row; the older one writes it. The younger one is told when to come again."""
    spanner = connect()
    spanner.apply(note("insert", "a", 1))
    older, younger = reading(spanner, "a"), reading(spanner, "a")
    spanner.commit(older, note("update", "a", 2))
    with pytest.raises(errors.Aborted) as aborted:
        spanner.commit(younger, note("update", "a", 3))
    [detail] = [item for item in aborted.value.details if isinstance(item, error_details_pb2.RetryInfo)]
    assert 0 < detail.retry_delay.ToTimedelta().total_seconds() < 1
    assert "google.rpc.retryinfo-bin" in dict(aborted.value.errors[0].trailing_metadata())
    assert number_of(spanner, "a") == 2


@pytest.mark.parametrize(
    "sql", ["SELECT number FROM Notes WHERE id = 'b'", "SELECT id FROM Notes@{FORCE_INDEX=Notes_ByNumber}"]
)
@pytest.mark.parametrize("mode", ["PESSIMISTIC", "OPTIMISTIC"])
def test_what_a_statement_has_read_belongs_to_its_transaction(fake, connect, sql, mode):
    """Whoever changes it first aborts the transaction; it may also look for a row that is not there."""
    spanner = connect()
    spanner.apply(note("insert", "c", 1))
    options = types.TransactionOptions(read_write={"read_lock_mode": mode})
    begun = spanner.read("Notes", ["id"], "a", transaction=types.TransactionSelector(begin=options))
    spanner.sql(sql, transaction=inside(begun))
    begun.precommit_token.CopyFrom(spanner.read("Notes", ["id"], "d", transaction=inside(begun)).precommit_token)
    kind, name = ("insert", "b") if "'b'" in sql else ("update", "c")
    fake.write("Notes", kind, ["id", "number"], [[name, 5]])
    for call in (
        lambda: spanner.commit(begun, note("insert", "e", 1)),
        lambda: spanner.sql(sql, transaction=inside(begun)),
    ):
        with pytest.raises(errors.Aborted):
            call()


LOCKING = "@{LOCK_SCANNED_RANGES=exclusive} SELECT number FROM Notes WHERE id = 'a'"


def inside(begun):
    return types.TransactionSelector(id=begun.metadata.transaction.id)


def test_what_a_statement_locks_for_itself_the_younger_one_waits_to_read(fake, connect):
    """And then reads what was written: it need not be aborted."""
    spanner, other = connect(), connect()
    spanner.apply(note("insert", "a", 1))
    older, younger = reading(spanner, "b"), reading(other, "c")
    spanner.sql(LOCKING, transaction=inside(older))
    older.precommit_token.CopyFrom(spanner.read("Notes", ["id"], "a", transaction=inside(older)).precommit_token)
    waits = Background(other.sql, LOCKING, transaction=inside(younger))
    let_it_wait(fake)
    spanner.commit(older, note("update", "a", 2))
    assert waits.join() == [["2"]]


def test_the_older_one_takes_what_a_younger_one_has_locked_for_itself(connect):
    spanner = connect()
    spanner.apply(note("insert", "a", 1))
    older, younger = reading(spanner, "b"), reading(spanner, "c")
    spanner.sql(LOCKING, transaction=inside(younger))
    assert spanner.rows("Notes", ["number"], "a", transaction=inside(older)) == [["1"]]
    with pytest.raises(errors.Aborted):
        spanner.sql(LOCKING, transaction=inside(younger))


def test_an_optimistic_transaction_locks_nothing_with_that_either(fake, connect):
    spanner = connect()
    spanner.apply(note("insert", "a", 1))
    options = types.TransactionOptions(read_write={"read_lock_mode": "OPTIMISTIC"})
    begun = spanner.read("Notes", ["id"], "b", transaction=types.TransactionSelector(begin=options))
    spanner.sql(LOCKING, transaction=inside(begun))
    spanner.apply(note("update", "a", 2))
    assert number_of(spanner, "a") == 2


def test_each_read_of_a_transaction_gives_a_newer_token(connect):
    spanner = connect()
    begun = reading(spanner, "a")
    again = spanner.read("Notes", ["id"], "b", transaction=inside(begun))
    assert again.precommit_token.seq_num > begun.precommit_token.seq_num
    with pytest.raises(errors.FailedPrecondition, match="highest sequence number"):
        spanner.commit(begun, note("insert", "a", 1))
    begun.precommit_token.CopyFrom(again.precommit_token)
    spanner.commit(begun, note("insert", "a", 1))


def test_the_younger_one_waits_for_the_older_one(fake, connect):
    spanner = connect()
    spanner.apply(note("insert", "a", 1))
    older, younger = reading(spanner, "a"), reading(spanner, "a")
    commit = Background(spanner.commit, younger, note("update", "a", 3))
    let_it_wait(fake)
    assert not commit.ended.is_set()
    spanner.rollback(older.metadata.transaction.id)
    commit.join()
    assert number_of(spanner, "a") == 3


def test_one_that_waits_is_aborted_when_the_older_one_writes(fake, connect):
    """Serializable: what the younger one read is no longer so."""
    spanner = connect()
    spanner.apply(note("insert", "a", 1))
    older, younger = reading(spanner, "a"), reading(spanner, "a")
    commit = Background(spanner.commit, younger, note("update", "a", 3))
    let_it_wait(fake)
    assert not commit.ended.is_set()
    spanner.commit(older, note("update", "a", 2))
    with pytest.raises(errors.Aborted):
        commit.join()
    assert number_of(spanner, "a") == 2


def test_readers_do_not_disturb_each_other(connect):
    spanner = connect()
    spanner.apply(note("insert", "a", 1), note("insert", "b", 1), note("insert", "c", 1))
    first, second = reading(spanner, "a", "b"), reading(spanner, "a", "c")
    spanner.commit(second, note("update", "c", 2))
    spanner.commit(first, note("update", "b", 2))
    assert (number_of(spanner, "b"), number_of(spanner, "c")) == (2, 2)


def test_the_absence_of_a_row_is_locked_too(connect):
    """Two that found nothing cannot both insert."""
    spanner = connect()
    older, younger = reading(spanner, "a"), reading(spanner, "a")
    spanner.commit(older, note("insert", "a", 1))
    with pytest.raises(errors.Aborted):
        spanner.commit(younger, note("insert", "a", 2))


def test_a_refused_commit_holds_no_locks(connect):
    spanner = connect()
    older, younger = reading(spanner, "a"), reading(spanner, "a")
    with pytest.raises(errors.NotFound):
        spanner.commit(older, note("update", "a", 1))
    spanner.commit(younger, note("insert", "a", 2), timeout=AT_ONCE)
    with pytest.raises(errors.NotFound):
        spanner.commit(older, note("update", "a", 1))
    assert number_of(spanner, "a") == 2


def test_an_aborted_transaction_answers_aborted_to_everything(connect):
    spanner = connect()
    older, younger = reading(spanner, "a"), reading(spanner, "a")
    spanner.commit(older, note("insert", "a", 1))
    for _ in range(2):
        with pytest.raises(errors.Aborted):
            spanner.commit(younger)
    spanner.rollback(younger.metadata.transaction.id)


def test_a_transaction_that_is_run_again_keeps_its_age(connect):
    """So that it cannot be aborted for ever."""
    spanner = connect()
    winner, loser = reading(spanner, "a"), reading(spanner, "a")
    spanner.commit(winner, note("insert", "a", 0))
    with pytest.raises(errors.Aborted):
        spanner.commit(loser)
    newer = reading(spanner, "a")
    again = spanner.begin(loser.metadata.transaction.id)
    spanner.commit(again, note("update", "a", 1), timeout=AT_ONCE)
    with pytest.raises(errors.Aborted):
        spanner.commit(newer, note("update", "a", 2))
    assert number_of(spanner, "a") == 1


def test_an_idle_transaction_does_not_hold_up_others(fake, connect):
    spanner = connect()
    idle, younger = reading(spanner, "a"), reading(spanner, "a")
    commit = Background(spanner.commit, younger, note("insert", "a", 1))
    let_it_wait(fake)
    assert not commit.ended.is_set()
    fake.idle_limit = 0.0
    commit.join()
    with pytest.raises(errors.Aborted):
        spanner.commit(idle, note("insert", "a", 2))
    assert number_of(spanner, "a") == 1


def test_an_idle_transaction_is_over_even_if_nobody_wants_its_locks(fake, connect):
    spanner = connect()
    idle = reading(spanner, "a")
    fake.idle_limit = 0.0
    with pytest.raises(errors.Aborted):
        spanner.commit(idle, note("insert", "a", 1))


def test_a_caller_that_gives_up_waiting_gets_its_deadline_and_writes_nothing(connect):
    spanner = connect()
    older, younger = reading(spanner, "a"), reading(spanner, "a")
    with pytest.raises(errors.DeadlineExceeded):
        spanner.commit(younger, note("insert", "a", 2), timeout=0.1)
    assert spanner.rows("Notes", ["id"], "a") == []
    spanner.commit(older, note("insert", "a", 1))
    assert number_of(spanner, "a") == 1


@pytest.mark.slow
def test_increments_by_many_threads_are_all_kept(fake, connect):
    """Read, add one, write, again on ABORTED: the sum is exact, and everybody gets there."""
    spanner = connect()
    spanner.apply(note("insert", "a", 0))

    def add(times):
        previous = b""
        while times:
            try:
                begun = spanner.read(
                    "Notes",
                    ["number"],
                    "a",
                    transaction=types.TransactionSelector(
                        begin={"read_write": {"multiplexed_session_previous_transaction_id": previous}}
                    ),
                )
                value = int(begun.rows[0].values[0].string_value)
                spanner.commit(begun, note("update", "a", value + 1))
            except errors.Aborted:
                previous = begun.metadata.transaction.id
            else:
                previous, times = b"", times - 1

    adding = [Background(add, 10) for _ in range(8)]
    for one in adding:
        one.join(PATIENCE)
    assert number_of(spanner, "a") == 80
    assert fake.rpcs["Commit"] > 81  # there were conflicts


# Precommit tokens, on the fake


def test_only_the_last_token_commits(connect):
    spanner = connect()
    begun = reading(spanner, "a")
    assert begun.precommit_token.seq_num > 0
    with pytest.raises(errors.FailedPrecondition, match="highest sequence number"):
        spanner.commit(begun, note("insert", "a", 1), precommit_token={"precommit_token": b"another", "seq_num": 1})
    with pytest.raises(errors.FailedPrecondition, match="missing the precommit token"):
        spanner.commit(begun, note("insert", "a", 1), precommit_token=None)
    assert spanner.rows("Notes", ["id"], "a") == []
    spanner.commit(begun, note("insert", "a", 1))
    assert number_of(spanner, "a") == 1


def test_a_regular_session_has_no_tokens(connect):
    spanner = connect(multiplexed=False)
    begun = reading(spanner, "a")
    assert not begun.HasField("precommit_token")
    spanner.commit(begun, note("insert", "a", 1), precommit_token=None)
    assert number_of(spanner, "a") == 1


def test_a_commit_may_be_asked_to_come_again(fake, connect):
    """The answer has a token and no timestamp, nothing is visible, and the second Commit needs no mutations."""
    spanner = connect()
    fake.commit_retry = True
    begun = reading(spanner, "a")
    asked = spanner.commit(begun, note("insert", "a", 1))
    assert asked.precommit_token.seq_num > begun.precommit_token.seq_num
    assert not types.CommitResponse.pb(asked).HasField("commit_timestamp")
    assert spanner.rows("Notes", ["id"], "a") == []
    with pytest.raises(errors.FailedPrecondition, match="highest sequence number"):
        spanner.commit(begun)
    done = spanner.commit(begun, precommit_token=asked.precommit_token)
    assert done.commit_timestamp
    assert number_of(spanner, "a") == 1


def test_a_transaction_belongs_to_its_session(connect):
    begun = reading(connect(), "a")
    with pytest.raises(errors.NotFound, match="Transaction not found"):
        connect().commit(begun)
