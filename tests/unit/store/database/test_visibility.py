"""The condition of a query says of every job what the rule says of it, also negated."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from leptond.core.access.visible import Visible
from leptond.store.database.visibility import condition

NAMES = ("ana", "bo", "it's", 'a"b', "")
PROJECTS = (None, "vision", "text", "x'y", "")
JOBS = [(user, project) for user in NAMES for project in PROJECTS]

names = st.sampled_from(NAMES)
projects = st.frozensets(st.sampled_from([one for one in PROJECTS if one is not None]))
visibles = st.builds(
    Visible, user=names, everything=st.booleans(), others=st.booleans(), shown=projects, hidden=projects
)


@given(visibles)
def test_sql_and_rule_agree(visible: Visible):
    with closing(sqlite3.connect(":memory:")) as db:
        check(db, visible)


def check(db, visible):
    db.execute("CREATE TABLE jobs (user TEXT NOT NULL, project TEXT)")
    db.executemany("INSERT INTO jobs VALUES (?, ?)", JOBS)
    text, values = condition(visible)
    seen = set(db.execute(f"SELECT user, project FROM jobs WHERE {text}", values).fetchall())
    hidden = set(db.execute(f"SELECT user, project FROM jobs WHERE NOT {text}", values).fetchall())
    assert seen == {one for one in JOBS if visible.shows(*one)}
    assert hidden == set(JOBS) - seen, "never NULL: negated, it has the others"
