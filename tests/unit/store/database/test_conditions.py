"""States in SQL: the words are core's, and the text is that of the indexes."""

import contextlib
import io
import re
import tokenize
from pathlib import Path

import pytest

import leptond.store
from leptond.core.jobs.states import LIVE, TERMINAL, AttemptState, State
from leptond.store.database import conditions
from leptond.store.database.conditions import state_in
from tests.simulation.store import database


def test_a_set_of_states_is_written_in_the_order_of_the_states():
    assert state_in({State.RUNNING, State.PENDING}) == "state IN ('pending', 'running')"
    assert state_in(LIVE) == conditions.IS_LIVE == "state IN ('starting', 'running', 'stopping')"


@pytest.mark.parametrize(
    ("index", "where"),
    [
        ("jobs_queue", conditions.IS_PENDING),
        ("folds_queue", conditions.IS_PENDING),
        ("jobs_live", conditions.IS_LIVE),
        ("attempts_one_live", conditions.ATTEMPT_LIVES),
        ("attempts_output", f"{conditions.ATTEMPT_ENDED} AND log_removed = 0"),
    ],
)
def test_a_partial_index_holds_for_the_same_text(index, where):
    with contextlib.closing(database()) as db:
        (made,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,)).fetchone()
        assert made.endswith(f" WHERE {where}")


@pytest.mark.parametrize("index", ["jobs_oldest", "jobs_by_owner", "jobs_by_owner_cpu"])
def test_what_is_ready_is_a_part_of_the_indexes_of_what_is_ready(index):
    with contextlib.closing(database()) as db:
        (made,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,)).fetchone()
        assert conditions.IS_READY in made


def test_no_state_is_spelled_out_in_sql():
    """Only `failed` may be: it is also a state of a dependency."""
    words = {*State, *AttemptState} - {State.FAILED}
    spelled = re.compile(rf"'({'|'.join(words)})'")
    found = [
        (path.name, token.start[0], token.string)
        for path in Path(leptond.store.__file__).parent.rglob("*.py")
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.STRING and spelled.search(token.string)
    ]
    assert not found


def test_terminal_jobs_are_those_without_a_way_on():
    assert conditions.IS_TERMINAL == state_in(TERMINAL)
    assert not any(f"'{state}'" in conditions.IS_TERMINAL for state in set(State) - TERMINAL)
