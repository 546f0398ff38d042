"""The table of legal transitions, and its twin in the database."""

import sqlite3

import pytest

from leptond.base.paths import data_dir
from leptond.core.jobs.model import LEGAL, LIVE, TERMINAL, FailureClass, State
from leptond.core.jobs.states import (
    LEGAL_ATTEMPT,
    AttemptState,
    IllegalTransition,
    attempt_diagram,
    diagram,
    end_state,
    move,
)
from leptond.store.database.migrate import migrate


def test_the_database_enforces_the_same_table():
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db, data_dir("migrations"))
    stored = set(db.execute("SELECT from_state, to_state FROM transitions"))
    assert stored == {(old.value, new.value) for old, following in LEGAL.items() for new in following}
    db.close()


ATTEMPT = (
    "INSERT INTO attempts (id, job_id, number, state, class, n_gpus, claimed_at, claimed_boot, boot_id)"
    " VALUES ('a', 1, 1, ?, ?, 0, 1, 1, 'boot')"
)


def refused(db, statement, *values):
    """Whether the schema forbids a statement; nothing of it stays."""
    db.execute("SAVEPOINT try")
    try:
        db.execute(statement, values)
    except sqlite3.IntegrityError:
        return True
    finally:
        db.execute("ROLLBACK TO try")
        db.execute("RELEASE try")
    return False


def class_of(state):
    return FailureClass.OK if state is AttemptState.ENDED else None


def test_the_database_knows_the_states_of_an_attempt_and_keeps_its_end():
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db, data_dir("migrations"))
    db.execute("INSERT INTO jobs (spec, name, user, gpus, submitted_at) VALUES ('{}', 'a', 'b', 0, 1)")
    assert refused(db, ATTEMPT, "odd", None)
    forbidden = set()
    for old in AttemptState:
        db.execute("SAVEPOINT attempt")
        db.execute(ATTEMPT, (old, class_of(old)))
        for new in AttemptState:
            if refused(db, "UPDATE attempts SET state = ?, class = ?", new, class_of(new)):
                forbidden.add((old, new))
        db.execute("ROLLBACK TO attempt")
    assert forbidden == {(AttemptState.ENDED, new) for new in AttemptState if new is not AttemptState.ENDED}
    assert not any(new in LEGAL_ATTEMPT[old] for old, new in forbidden)
    db.close()


def test_an_attempt_only_goes_on_and_can_always_end():
    assert list(LEGAL_ATTEMPT) == list(AttemptState)
    order = list(AttemptState)
    for old, following in LEGAL_ATTEMPT.items():
        assert following == set(order[order.index(old) + 1 :])


def test_every_state_is_in_the_table_and_reachable():
    assert set(LEGAL) == set(State)
    reached, fresh = {State.PENDING}, {State.PENDING}
    while fresh:
        fresh = {new for old in fresh for new in LEGAL[old]} - reached
        reached |= fresh
    assert reached == set(State)


def test_terminal_states_lead_nowhere_and_live_ones_can_always_end():
    assert {State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED, State.LOST} == TERMINAL
    for state in LIVE:
        assert TERMINAL <= LEGAL[state]


def test_an_illegal_move_names_both_states():
    with pytest.raises(IllegalTransition, match="succeeded to running"):
        move(State.SUCCEEDED, State.RUNNING)


def test_every_class_has_an_end():
    assert {end_state(cause) for cause in FailureClass} <= TERMINAL
    assert end_state(FailureClass.INFRA_NODE) is State.LOST
    assert end_state(FailureClass.USER) is State.FAILED


def test_the_picture_of_the_documentation_is_the_table():
    docs = data_dir("migrations").parent / "docs" / "concepts.md"
    assert diagram() in docs.read_text()
    assert attempt_diagram() in docs.read_text()
