"""The promises of ``tests/crash`` about processes that die beside others, on one table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.test_bystanders import test_two_poisons_are_given_up_and_all_of_their_neighbours_succeed
from tests.crash.test_process_neighbours import (
    test_a_killed_process_is_followed_at_once,
    test_no_operation_is_ever_run_by_two_at_a_time,
    test_one_that_stands_still_keeps_what_it_has_while_others_die_beside_it,
    test_the_only_process_goes_on_at_once_when_it_is_started_again,
    test_without_its_files_a_dead_process_is_followed_after_its_lease,
)

from .neighbours import folder_of

__all__ = [
    "test_a_killed_process_is_followed_at_once",
    "test_no_operation_is_ever_run_by_two_at_a_time",
    "test_one_that_stands_still_keeps_what_it_has_while_others_die_beside_it",
    "test_the_only_process_goes_on_at_once_when_it_is_started_again",
    "test_two_poisons_are_given_up_and_all_of_their_neighbours_succeed",
    "test_without_its_files_a_dead_process_is_followed_after_its_lease",
]


@pytest.fixture
def store_url(url: str, tmp_path: Path) -> str:
    """Of that table; the processes know each other in ``tmp_path``."""
    return f"{url}&neighbours={tmp_path}"


@pytest.fixture
def files(store_url: str, tmp_path: Path) -> Path:
    """The directory of what they know of each other."""
    return folder_of(store_url, tmp_path)
