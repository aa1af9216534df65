"""Which run is to blame for a crash (rule 3): pure functions of the row.

A process that dies takes all of its runs with it, and one of them may have killed it. From its second crash on, an
operation is a suspect, and each further run of it is a trial: it begins when everything else in its process has run for
longer than the trial lasts, and nothing else is claimed there until it is over.

The first trial is shared with other suspects, so that the many innocent are soon acquitted; whoever is there when the
process dies shares the next one with fewer, and then has one alone. Who dies during a trial alone is to blame, and that
run counts. Any other does not count. Who dies after its trial was a bystander: the next one lasts longer.
"""

from __future__ import annotations

from dataclasses import replace

from lro_aio.core.record import Record, State, Wait

__all__ = ["begun", "company", "counted", "length"]

CRASHES = 2
"""Runs that ended without a result after which an operation is a suspect."""
SHORTEST = 2 / 3
"""Leases that a trial lasts beyond the last sign of life of the run before: two renew intervals. A process dies up to
one after its last renewal, and the run that is on trial may take a little longer to do it again."""
SHARED = 16
"""Suspects that share the first trial; a quarter as many share the next."""
LONGEST = 60.0
"""Leases up to which a trial grows. Whatever takes longer to kill its process counts in any company."""


def length(record: Record, lease: float) -> float:
    """Seconds for which the next run of this row is on trial; 0 for a row that is no suspect.

    Args:
        record: The row, before it is claimed.
        lease: Seconds that a claim lasts.
    """
    if record.attempt < CRASHES:
        return 0.0
    known = record.wait.trial if record.wait is not None else 0.0
    if record.state is not State.RUNNING:
        return known or SHORTEST * lease
    lived = max(0.0, (record.lease_expire_time or 0.0) - lease - _began(record))
    return min(max(known, lived + SHORTEST * lease), LONGEST * lease)


def counted(record: Record, lease: float) -> int:
    """Runs of this row that ended without a result and for which it is to blame; see ``length``."""
    if record.state is not State.RUNNING or record.wait is None or not record.wait.trial:
        return record.attempt
    last_sign = (record.lease_expire_time or 0.0) - lease
    died = last_sign + SHORTEST / 2 * lease  # at the latest
    later = died > record.wait.began + record.wait.trial and record.wait.trial < LONGEST * lease
    return record.attempt - 1 if later or record.wait.company > 1 else record.attempt


def company(record: Record) -> int:
    """How many suspects may share the next trial of this row, itself among them."""
    if record.wait is None or not record.wait.trial:
        return SHARED
    return max(1, record.wait.company // 4)


def begun(record: Record, *, now: float, lease: float, on_cancel: str, company: int) -> Wait | None:
    """The wait of a row whose run begins: what it was, and for a suspect when and for how long it is on trial.

    Args:
        record: The row, before it is claimed.
        now: Epoch seconds.
        lease: Seconds that the claim lasts.
        on_cancel: The clean-up that the claimant's handler declares.
        company: How many suspects share the trial.
    """
    trial = length(record, lease)
    if not trial:
        return record.wait.acquitted() if record.wait is not None else None
    # A row that never waited gets a wait, as one that is given back; its token is as hard to guess as the uid.
    wait = record.wait or Wait(token=f"{record.uid}.{record.claim}", sleep_until=now, on_cancel=on_cancel, rerun=True)
    return replace(wait, began=now, trial=trial, company=company)


def _began(record: Record) -> float:
    """When the run began, or a later moment: its last write, where it was no trial."""
    return record.wait.began if record.wait is not None and record.wait.began else record.update_time
