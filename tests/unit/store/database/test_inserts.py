"""Rows inserted many at a time."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.store.database import inserts

WHOLE = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ROW = st.tuples(WHOLE, st.one_of(st.none(), TEXT, st.floats(allow_nan=False)))


@pytest.fixture(scope="module")
def db():
    one = sqlite3.connect(":memory:", isolation_level=None)
    one.execute("CREATE TABLE t (a, b, c, d)")
    yield one
    one.close()


@given(st.lists(ROW, max_size=300), WHOLE, TEXT)
def test_rows_are_inserted_as_one_by_one(db, rows, a, d):
    db.execute("DELETE FROM t")
    inserts.insert(db, "t", {"a": a, "d": d}, ("c", "b"), rows)
    wanted = [(a, b, c, d) for c, b in rows]
    found = [tuple(row) for row in db.execute("SELECT a, b, c, d FROM t ORDER BY rowid")]
    assert found == wanted


def test_rows_that_have_nothing_in_common(db):
    db.execute("DELETE FROM t")
    inserts.insert(db, "t", {}, ("a", "b"), [(1, 2), (3, 4)])
    assert [tuple(row) for row in db.execute("SELECT a, b FROM t")] == [(1, 2), (3, 4)]


def test_few_statements_serve_all_counts():
    statements = []
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE t (a, b)")
    db.set_trace_callback(statements.append)
    inserts.insert(db, "t", {"a": 1}, ("b",), [(number,) for number in range(1000)])
    assert [sql.count("(") for sql in statements].count(129) == 7
    assert len(statements) == 10  # 7 of 128 rows, and 64, 32 and 8
    db.close()
