"""Lists of jobs, a page at a time, by key."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from leptond.base.errors import BadRequest, NotFound
from leptond.core.access.visible import Visible
from leptond.core.jobs.fields import FILTERS
from leptond.core.jobs.model import LIVE, Attempt, Job, State
from leptond.store.database import rows, visibility
from leptond.store.database.conditions import IS_LIVE, IS_PENDING, IS_READY, state_in
from leptond.store.queue import compact_arrays, jobs


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs to list; None and empty mean any. `equal`: values of fields that the table of fields calls
    filters; `since` is UTC seconds of submission; `never`: only those that can never start, or, if
    False, only others; `visible`: only those that somebody sees in full."""

    states: Sequence[State] = ()
    equal: Mapping[str, str] = {}
    array_id: int | None = None
    label: tuple[str, str] | None = None
    since: float | None = None
    never: bool | None = None
    visible: Visible | None = None


def newest(
    db: sqlite3.Connection, wanted: Filter, *, limit: int, cursor: str | None
) -> tuple[list[Job], str | None]:
    """Jobs from the newest to the oldest, and the cursor of the next page. Raises BadRequest."""
    where, values = _where(wanted)
    below = _cursor(cursor, 1)[0] if cursor is not None else None
    under, key = (["id < ?"], [below]) if below is not None else ([], [])
    found: list[Job] = []
    # one look for each state goes along its index; all states at once would be sorted first
    for look, index in _looks(db, wanted, where):
        found += _select(db, [*look, *under], [*values, *key], "id DESC", limit + 1, index)
    if not wanted.states or {State.PENDING, State.CANCELLED} & set(wanted.states):
        compact = _compact(db, [*where, *_states(wanted), *under], [*values, *key], "id DESC", limit + 1)
        found += islice(compact_arrays.newest(compact, below=below), limit + 1)
    found.sort(key=lambda job: -job.id)
    page = found[:limit]
    return page, str(page[-1].id) if len(found) > limit else None


FEW = 20_000
"""So many jobs of a state are looked through rather than all jobs of a user or of a name."""


def _looks(db: sqlite3.Connection, wanted: Filter, where: list[str]) -> list[tuple[list[str], str | None]]:
    """The conditions of the looks that find the jobs, each with the index that it has to take."""
    if not wanted.states:
        return [(where, None)]
    counts = {row["state"]: row["n"] for row in db.execute("SELECT state, n FROM job_counts")}
    return [
        ([*where, f"state = '{state}'"], "jobs_state" if counts[state] <= FEW else None)
        for state in wanted.states
        if counts[state]
    ]


_ONE_LIVE = (
    "(array_id IS NULL OR id IN (SELECT min(id) FROM jobs INDEXED BY jobs_live"
    f" WHERE {IS_LIVE} AND array_id IS NOT NULL GROUP BY array_id))"
)
_NONE_LIVE = (
    "(array_id IS NULL OR array_id NOT IN (SELECT array_id FROM jobs INDEXED BY jobs_live"
    f" WHERE {IS_LIVE} AND array_id IS NOT NULL))"
)
_ONE_PENDING = (
    f"(array_id IS NULL OR id IN (SELECT min(id) FROM jobs WHERE {IS_PENDING} AND array_id IS NOT NULL"
    " GROUP BY array_id))"
)
_ONE_COMPACT = (
    f"(array_id NOT IN (SELECT array_id FROM jobs WHERE {IS_PENDING} AND array_id IS NOT NULL)"
    f" AND id IN (SELECT min(id) FROM folds WHERE {IS_PENDING} GROUP BY array_id))"
)
"""Conditions that leave one member of each array: a live one where there is any, else the first pending one,
which is a compact one where no pending one has a row."""


def in_queue_order(
    db: sqlite3.Connection,
    wanted: Filter,
    *,
    limit: int,
    cursor: str | None,
    whole: bool = False,
    is_hidden: Callable[[Job], bool] | None = None,
) -> tuple[list[Job], str | None]:
    """Live jobs by id, then pending ones in the planner's order. `whole`: one member of each array stands for
    all of it. `is_hidden`: tells of which jobs the cursor must not hold the priority. Raises BadRequest."""
    where, values = _where(wanted)
    where += _states(wanted)
    # a cursor is (group, key 1, key 2) of the last row seen: group 0 live, 1 pending, 2 hidden
    group, first, second = _cursor(cursor, 3) if cursor is not None else (0, 0, 0)
    if group == 2:
        group, first = 1, _priority(db, second)
    found: list[Job] = []
    if group == 0:
        live = [*where, IS_LIVE, "id > ?", *([_ONE_LIVE] if whole else [])]
        found += _select(db, live, [*values, first], "id", limit + 1, "jobs_live")
    if len(found) <= limit:
        after = (first, second) if group == 1 else None
        one = [_ONE_PENDING, _ONE_COMPACT] if whole else ["1", "1"]
        if whole and (not wanted.states or LIVE & set(wanted.states)):
            one = [f"{_NONE_LIVE} AND {each}" for each in one]
        found += _pending(db, where, values, limit + 1 - len(found), after, only=one, whole=whole)
    page = found[:limit]
    if len(found) <= limit:
        return page, None
    last = page[-1]
    if last.state in LIVE:
        return page, f"0.{last.id}.0"
    if is_hidden is not None and is_hidden(last):
        return page, f"2.0.{last.id}"
    return page, f"1.{last.priority}.{last.id}"


def next_ones(db: sqlite3.Connection, limit: int) -> list[Job]:
    """The first pending jobs of the queue, one for each array; those that can never start are the last."""
    found: list[Job] = []
    for never in (False, True):
        wanted = Filter(states=[State.PENDING], never=never)
        found += in_queue_order(db, wanted, limit=limit, cursor=None, whole=True)[0]
    return found[:limit]


def members(db: sqlite3.Connection, array_ids: Collection[int]) -> dict[int, dict[State, int]]:
    """Count the members of arrays that have not ended, by state."""
    found: dict[int, dict[State, int]] = {}
    for array_id in array_ids:
        counts: Counter[State] = Counter()
        for row in db.execute(
            "SELECT state, count(*) AS n FROM jobs INDEXED BY jobs_array WHERE array_id = ?"
            " AND ended_at IS NULL GROUP BY state",
            (array_id,),
        ):
            counts[State(row["state"])] += row["n"]
        for part in compact_arrays.of_array(db, array_id, pending=True):
            counts[State.PENDING] += part.count
        found[array_id] = dict(counts)
    return found


def _pending(
    db: sqlite3.Connection,
    where: list[str],
    values: list[Any],
    limit: int,
    after: tuple[int, int] | None,
    *,
    only: Sequence[str],
    whole: bool,
) -> list[Job]:
    """The next pending jobs in the queue's order, after (priority, id) (indexes jobs_queue, folds_queue)."""
    where = [*where, IS_PENDING]
    order = "priority DESC, id"
    keys = [after[0], *after] if after is not None else []
    next_row = "(priority < ? OR (priority = ? AND {} > ?))"
    rest = [next_row.format("id")] if after is not None else []
    found = _select(db, [*where, only[0], *rest], [*values, *keys], order, limit, "jobs_queue")
    rest = [next_row.format("last_id")] if after is not None else []
    compact = _compact(db, [*where, only[1], *rest], [*values, *keys], order, limit)
    if whole:
        found += [part.member(part.first) for part in compact]
        found.sort(key=lambda job: (-job.priority, job.id))
    elif compact:
        found += islice(compact_arrays.in_order(compact, after=after), limit)
        found.sort(key=lambda job: (-job.priority, job.id))
    return found[:limit]


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """Name, user, project and width of a job."""

    ref: str
    name: str
    user: str
    project: str | None
    gpus: int


def names(db: sqlite3.Connection, job_ids: Sequence[int]) -> dict[int, Named]:
    """Return the labels of these jobs, by id."""
    found: dict[int, Named] = {}
    for job_id in job_ids:
        row = db.execute(
            "SELECT id, name, user, project, gpus, array_id, array_index FROM jobs WHERE id = ?", (job_id,)
        ).fetchone()
        if row is not None:
            found[job_id] = Named(
                ref=rows.ref(row),
                name=row["name"],
                user=row["user"],
                project=row["project"],
                gpus=row["gpus"],
            )
    return found


def refs(db: sqlite3.Connection, job_ids: Collection[int]) -> dict[int, str]:
    """What people call those of these jobs that are members of arrays and have rows, by id."""
    found: dict[int, str] = {}
    ids = list(job_ids)
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        for row in db.execute(
            "SELECT id, array_id, array_index FROM jobs WHERE array_id IS NOT NULL"
            f" AND id IN ({', '.join('?' * len(some))})",
            some,
        ):
            found[row["id"]] = rows.ref(row)
    return found


def attempts_of(db: sqlite3.Connection, job_ids: Sequence[int]) -> dict[int, list[Attempt]]:
    """The attempts of some jobs, in order, by job id."""
    found: dict[int, list[Attempt]] = {job_id: [] for job_id in job_ids}
    for start in range(0, len(job_ids), 500):
        some = job_ids[start : start + 500]
        marks = ", ".join("?" * len(some))
        for row in db.execute(
            f"SELECT * FROM attempts WHERE job_id IN ({marks}) ORDER BY job_id, number", some
        ):
            found[row["job_id"]].append(rows.shown_attempt(row))
    return found


def recent_failures(db: sqlite3.Connection, since: float, limit: int) -> list[Job]:
    """Jobs that ended badly since `since`, newest first (index jobs_ended)."""
    found = db.execute(
        f"SELECT * FROM jobs WHERE ended_at >= ? AND {state_in({State.FAILED, State.TIMED_OUT, State.LOST})}"
        " ORDER BY ended_at DESC LIMIT ?",
        (since, limit),
    )
    return [rows.shown_job(row) for row in found]


def failure_count(db: sqlite3.Connection, since: float) -> int:
    """Count the jobs that ended badly since `since` (index jobs_ended)."""
    count: int = db.execute(
        "SELECT count(*) FROM jobs INDEXED BY jobs_ended WHERE ended_at >= ?"
        f" AND {state_in({State.FAILED, State.TIMED_OUT, State.LOST})}",
        (since,),
    ).fetchone()[0]
    return count


def held_count(db: sqlite3.Connection) -> int:
    """Count the pending jobs that are held."""
    count: int = db.execute("SELECT n FROM held_count").fetchone()[0]
    return count


def oldest_wait(db: sqlite3.Connection) -> float | None:
    """Submission time of the oldest job that could start (indexes jobs_oldest; and the compact arrays)."""
    found = [
        db.execute(
            f"SELECT id, submitted_at FROM {table} WHERE {IS_READY}{more} ORDER BY id LIMIT 1"
        ).fetchone()
        for table, more in (("jobs INDEXED BY jobs_oldest", " AND backoff_boot IS NULL"), ("folds", ""))
    ]
    oldest = min((row for row in found if row is not None), key=lambda row: row["id"], default=None)
    return oldest["submitted_at"] if oldest is not None else None


def _states(wanted: Filter) -> list[str]:
    """The states that are asked for, as a condition."""
    if not wanted.states:
        return []
    return [f"state IN ({', '.join(repr(str(state)) for state in wanted.states)})"]


def where(wanted: Filter) -> tuple[list[str], list[Any]]:
    """The conditions of a filter in SQL, for ``jobs`` and ``folds``, and their values."""
    found, values = _where(wanted)
    return [*found, *_states(wanted)], values


def _where(wanted: Filter) -> tuple[list[str], list[Any]]:
    where: list[str] = ["1"]
    values: list[Any] = []
    for field in FILTERS:
        if field.name in wanted.equal:
            where.append(f"{field.name} = ?")
            values.append(wanted.equal[field.name])
    if wanted.array_id is not None:
        where.append("array_id = ?")
        values.append(wanted.array_id)
    if wanted.label is not None:
        where.append("EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ? AND value = ?)")
        values.extend(wanted.label)
    if wanted.never is not None:
        where.append(f"never_cause IS {'NOT ' if wanted.never else ''}NULL")
    if wanted.since is not None:
        where.append("submitted_at >= ?")
        values.append(wanted.since)
    if wanted.visible is not None:
        seen, names = visibility.condition(wanted.visible)
        where.append(seen)
        values.extend(names)
    return where, values


def _select(
    db: sqlite3.Connection,
    where: Sequence[str],
    values: Sequence[Any],
    order: str,
    limit: int,
    index: str | None = None,
) -> list[Job]:
    table = f"jobs INDEXED BY {index}" if index is not None else "jobs"
    found = db.execute(
        f"SELECT * FROM {table} WHERE {' AND '.join(where)} ORDER BY {order} LIMIT ?", (*values, limit)
    )
    return [rows.shown_job(row) for row in found]


def _compact(
    db: sqlite3.Connection, where: Sequence[str], values: Sequence[Any], order: str, limit: int
) -> list[compact_arrays.CompactArray]:
    found = db.execute(
        f"SELECT * FROM folds WHERE {' AND '.join(where)} ORDER BY {order} LIMIT ?", (*values, limit)
    )
    return [compact_arrays.CompactArray(row) for row in found]


def _priority(db: sqlite3.Connection, job_id: int) -> int:
    """Return the priority of a job that a cursor names."""
    try:
        return jobs.find(db, str(job_id)).priority
    except NotFound:
        raise BadRequest(
            "the job at which the last page ended is gone", hint="start again without a cursor"
        ) from None


def _cursor(text: str, parts: int) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(".", 4)]
    except ValueError:
        numbers = []
    if len(numbers) != parts or any(abs(number) > 2**53 for number in numbers):
        raise BadRequest("the cursor is not one of ours", hint="pass next_cursor on unchanged")
    return numbers
