"""Copy what can still be read of a damaged database, row by row, into a new one.

The new file is filled from the newest good backup first, then from the damaged file, whose rows are newer;
of a job the higher version counts. Every row passes the constraints of the schema again; what does not is
left out and counted. The damaged file is only read.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from leptond.core.jobs.model import DependencyKind, FailureClass
from leptond.core.jobs.states import TERMINAL, AttemptState, State
from leptond.store.database import rows
from leptond.store.database.conditions import ATTEMPT_LIVES, IS_LIVE, IS_PENDING
from leptond.store.database.examine import check, looked_at
from leptond.store.database.migrate import available, migrate, newest, version
from leptond.store.database.sqlite_errors import store_errors
from leptond.store.queue import compact_arrays, dependencies, never

COUNTS = {
    "job_counts": "INSERT OR REPLACE INTO job_counts SELECT states.state, (SELECT count(*) FROM jobs"
    " WHERE jobs.state = states.state) + (SELECT coalesce(sum(last_id - id + 1), 0) FROM folds"
    " WHERE folds.state = states.state) FROM job_counts AS states",
    "pending_counts": "INSERT INTO pending_counts SELECT kind, name, sum(n) FROM ("
    + " UNION ALL ".join(
        f"SELECT '{kind}' AS kind, {kind} AS name, count(*) AS n FROM jobs WHERE {IS_PENDING}"
        f" GROUP BY {kind} UNION ALL SELECT '{kind}', {kind}, sum(last_id - id + 1) FROM folds"
        f" WHERE {IS_PENDING} GROUP BY {kind}"
        for kind in ("user", "project", "queue")
    )
    + ") WHERE name IS NOT NULL GROUP BY kind, name",
    "held_count": f"INSERT INTO held_count SELECT 1, (SELECT count(*) FROM jobs WHERE {IS_PENDING}"
    f" AND held = 1) + (SELECT coalesce(sum(last_id - id + 1), 0) FROM folds WHERE {IS_PENDING}"
    " AND held = 1)",
    "arrays": "INSERT INTO arrays SELECT f.array_id, (SELECT count(*) FROM jobs AS j WHERE"
    f" j.array_id = f.array_id AND j.{IS_PENDING} AND j.held = 0 AND j.deps_waiting = 0"
    " AND j.deps_failed = 0 AND j.backoff_boot IS NULL AND j.queue = f.queue AND j.gpus = f.gpus"
    " AND j.order_at = f.order_at AND j.due_at = f.due_at AND j.alone_at = f.alone_at"
    " AND j.short_s = f.short_s), f.queue, f.gpus, f.order_at, f.due_at, f.alone_at, f.short_s"
    " FROM folds AS f WHERE f.id = (SELECT min(id) FROM folds WHERE array_id = f.array_id)",
}
"""Tables that triggers keep, and how they are counted again (a test compares the list with the schema)."""

STATIC = frozenset({"transitions", "counted_together", *COUNTS})
"""Tables whose rows are not carried over; ``counted_together`` has some only within a transaction."""

MOST_PROBES = 1_000_000


class Salvaged(msgspec.Struct, kw_only=True):
    """The counts of rows of each table, by source, and of those that did not fit."""

    base: str | None = None
    schema: int | None = None
    unreadable: str | None = None
    read: dict[str, int] = {}
    refused: dict[str, int] = {}
    jobs: int = 0


def build(damaged: Path | None, base: Path | None, target: Path, migrations: Path) -> Salvaged:
    """Make the database `target` (a new file) out of `base` and what can be read of `damaged`. Raises
    StoreError, Damaged when even that is no sound database."""
    found = Salvaged(base=base.name if base is not None else None)
    with store_errors(), contextlib.closing(sqlite3.connect(target, isolation_level=None)) as db:
        target.chmod(0o600)
        db.row_factory = sqlite3.Row
        if base is not None:
            with contextlib.closing(sqlite3.connect(f"{base.as_uri()}?mode=ro", uri=True)) as source:
                source.backup(db)
        db.execute("PRAGMA journal_mode = DELETE")
        migrate(db, migrations)
        stage = Path(f"{target}.stage")
        if damaged is not None and _stage(damaged, stage, migrations, found):
            _merge(stage, db, found)
        _agree(db)
        check(target, db)
        wrong = db.execute("PRAGMA foreign_key_check").fetchall()
        if wrong:
            raise sqlite3.IntegrityError(f"{len(wrong)} rows point to nothing")
        found.jobs = db.execute("SELECT sum(n) FROM job_counts").fetchone()[0]
    return found


# -- reading -------------------------------------------------------------------------------------------


def _stage(damaged: Path, stage: Path, migrations: Path, found: Salvaged) -> bool:
    """Read `damaged` into the file `stage` at its own schema, then bring that to the newest. False when
    nothing could be read."""
    try:
        with looked_at(damaged) as source, contextlib.closing(_empty(stage)) as copy:
            found.schema = version(source)
            if not 1 <= found.schema <= newest(migrations):
                found.unreadable = f"its schema number is {found.schema}"
                return False
            _migrate_to(copy, migrations, found.schema)
            with _unguarded(copy):
                for table in _tables(copy):
                    _load(source, copy, table, found)
            with contextlib.suppress(sqlite3.DatabaseError):
                for name, seq in source.execute("SELECT name, seq FROM sqlite_sequence").fetchall():
                    _raise_sequence(copy, name, seq)
            migrate(copy, migrations)
    except (sqlite3.DatabaseError, OSError) as error:
        found.unreadable = str(error)
        return False
    return True


def _empty(path: Path) -> sqlite3.Connection:
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    path.chmod(0o600)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA synchronous = OFF")  # scratch: it is read once and removed
    return db


def _migrate_to(db: sqlite3.Connection, migrations: Path, number: int) -> None:
    for at, file in available(migrations):
        if at <= number:
            db.executescript(f"BEGIN;\n{file.read_text()}\n;PRAGMA user_version = {at};\nCOMMIT;")


def _tables(db: sqlite3.Connection) -> list[str]:
    return [
        row["name"]
        for row in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
        )
        if row["name"] not in STATIC
    ]


@contextlib.contextmanager
def _unguarded(db: sqlite3.Connection) -> Iterator[None]:
    """Rows go in as they were: no trigger fires, and a row may come before the one that it points to."""
    triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("BEGIN")
    for trigger in triggers:
        db.execute(f"DROP TRIGGER {trigger['name']}")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    for trigger in triggers:
        db.execute(trigger["sql"])
    db.execute("COMMIT")


def _load(source: sqlite3.Connection, copy: sqlite3.Connection, table: str, found: Salvaged) -> None:
    columns = [row["name"] for row in copy.execute(f"PRAGMA table_info({table})")]
    names = ", ".join(f'"{column}"' for column in columns)
    marks = ", ".join("?" * len(columns))
    for row in _rows(source, copy, table, names):
        try:
            copy.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row[c] for c in columns))
        except sqlite3.Error:
            found.refused[table] = found.refused.get(table, 0) + 1
        else:
            found.read[table] = found.read.get(table, 0) + 1


def _decodes(table: str, row: sqlite3.Row) -> None:
    """Raise where the program itself could not read the row."""
    if table == "jobs":
        rows.job(row)
    elif table == "attempts":
        rows.attempt(row)
    elif table == "folds":
        compact_arrays.CompactArray(row).member(row["last_id"])


def _rows(
    source: sqlite3.Connection, copy: sqlite3.Connection, table: str, names: str
) -> Iterator[sqlite3.Row]:
    """All rows of a table that can be read: from the front until it breaks, from the back until it breaks,
    and, by number, one by one what is between."""
    keys = [
        row["name"]
        for row in sorted(copy.execute(f"PRAGMA table_info({table})"), key=lambda row: row["pk"])
        if row["pk"]
    ]
    numbered = _has_rowid(copy, table)
    order = ["rowid"] if numbered else keys
    key = f", {order[0]} AS _key"
    select = f"SELECT {names}{key} FROM {table} NOT INDEXED"
    front = back = None
    whole = False
    try:
        for row in source.execute(f"{select} ORDER BY {', '.join(order)}"):
            front = row["_key"]
            yield row
        whole = True
    except sqlite3.DatabaseError:
        pass
    if whole:
        return
    descending = ", ".join(f"{name} DESC" for name in order)
    where, bound = ("", ()) if front is None else (f" WHERE {order[0]} > ?", (front,))
    try:
        for row in source.execute(f"{select}{where} ORDER BY {descending}", bound):
            back = row["_key"]
            yield row
    except sqlite3.DatabaseError:
        pass
    if not numbered:
        return
    first = 1 if front is None else front + 1
    last = first + MOST_PROBES if back is None else min(back, first + MOST_PROBES)
    for number in range(first, last):
        with contextlib.suppress(sqlite3.DatabaseError):
            row = source.execute(f"{select} WHERE rowid = ?", (number,)).fetchone()
            if row is not None:
                yield row
        if back is None and number - first > 10_000:
            break  # the end of the table is lost too: do not try a million numbers that never were


def _has_rowid(db: sqlite3.Connection, table: str) -> bool:
    try:
        db.execute(f"SELECT rowid FROM {table} LIMIT 1")
    except sqlite3.OperationalError:
        return False
    return True


# -- joining -------------------------------------------------------------------------------------------


def _merge(stage: Path, db: sqlite3.Connection, found: Salvaged) -> None:
    """Rows of `stage` over those of `db`; of a job the higher version counts."""
    with contextlib.closing(sqlite3.connect(stage)) as newer:
        newer.row_factory = sqlite3.Row
        with _unguarded(db):
            for table in _tables(db):
                columns = [row["name"] for row in db.execute(f"PRAGMA table_info({table})")]
                names = ", ".join(f'"{column}"' for column in columns)
                marks = ", ".join("?" * len(columns))
                keep = table in ("events", "meta")
                verb = "INSERT OR IGNORE" if keep else "INSERT OR REPLACE"
                for row in newer.execute(f"SELECT {names} FROM {table}"):
                    if table in ("jobs", "folds") and _older(db, table, row):
                        continue
                    try:
                        _decodes(table, row)
                        db.execute(f"{verb} INTO {table} ({names}) VALUES ({marks})", tuple(row))
                    except (sqlite3.IntegrityError, msgspec.MsgspecError, ValueError, TypeError):
                        found.refused[table] = found.refused.get(table, 0) + 1
            lineage = newer.execute("SELECT value FROM meta WHERE key = 'lineage'").fetchone()
            if lineage is not None:
                db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('lineage', ?)", tuple(lineage))
        for name, seq in newer.execute("SELECT name, seq FROM sqlite_sequence").fetchall():
            _raise_sequence(db, name, seq)


def _older(db: sqlite3.Connection, table: str, row: sqlite3.Row) -> bool:
    there = db.execute(f"SELECT version FROM {table} WHERE id = ?", (row["id"],)).fetchone()
    return there is not None and there["version"] > row["version"]


def _raise_sequence(db: sqlite3.Connection, name: str, seq: object) -> None:
    if not isinstance(seq, int):
        return
    changed = db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (seq, name))
    if not changed.rowcount:
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, seq))


_NOT_RUN = (
    "NOT EXISTS (SELECT 1 FROM jobs WHERE script_sha256 = sha256)"
    " AND NOT EXISTS (SELECT 1 FROM folds WHERE script_sha256 = sha256)"
)
"""A script that no job runs."""


def _agree(db: sqlite3.Connection) -> None:
    """Make the tables agree where one has lost rows that another one refers to. What really runs is found in
    the attempts' directories afterwards: here a job without its attempt only goes back to before it."""
    ended = ", ".join(f"'{state}'" for state in State if state in TERMINAL)
    with _unguarded(db):
        _cut_compact_arrays(db)
        db.execute("DELETE FROM attempts WHERE job_id NOT IN (SELECT id FROM jobs)")
        _settle_live_attempts(db)
        db.execute("UPDATE jobs SET retry_of = NULL WHERE retry_of NOT IN (SELECT id FROM jobs)")
        db.execute("DELETE FROM dependencies WHERE job_id NOT IN (SELECT id FROM jobs)")
        db.execute(
            "UPDATE dependencies SET state = 'failed' WHERE state = 'waiting'"
            " AND on_job_id NOT IN (SELECT id FROM jobs)"
        )
        db.execute(
            "UPDATE dependencies SET state = CASE WHEN kind = 'any' OR (kind = 'ok') ="
            f" ((SELECT state FROM jobs WHERE id = on_job_id) = '{State.SUCCEEDED}')"
            " THEN 'met' ELSE 'failed' END"
            f" WHERE state = 'waiting' AND (SELECT state FROM jobs WHERE id = on_job_id) IN ({ended})"
            # unless a retry of it is waited for
            " AND NOT EXISTS (SELECT 1 FROM jobs AS own JOIN jobs AS again"
            " ON again.root_id = coalesce(own.root_id, own.id) AND again.ended_at IS NULL"
            " WHERE own.id = on_job_id)"
        )
        db.execute(f"DELETE FROM scripts WHERE {_NOT_RUN}")
        db.execute("DELETE FROM array_dependencies WHERE job_id NOT IN (SELECT id FROM jobs)")
        for row in db.execute("SELECT * FROM array_dependencies").fetchall():
            kind = DependencyKind(row["kind"])
            waiting, failed = dependencies.array_counts(db, row["on_array_id"], kind) or (0, 0)
            db.execute(
                "UPDATE array_dependencies SET waiting = ?, failed = ?"
                " WHERE job_id = ? AND on_array_id = ? AND kind = ?",
                (waiting, max(failed, row["failed"]), row["job_id"], row["on_array_id"], row["kind"]),
            )
        for state in ("waiting", "failed"):
            db.execute(
                f"UPDATE jobs SET deps_{state} ="
                " (SELECT count(*) FROM dependencies WHERE job_id = jobs.id AND state = ?)"
                f" + (SELECT coalesce(sum({state}), 0) FROM array_dependencies WHERE job_id = jobs.id)",
                (state,),
            )
            db.execute(
                f"UPDATE folds SET deps_{state} = coalesce((SELECT deps_{state} FROM jobs"
                f" WHERE id = folds.array_id), deps_waiting) WHERE {IS_PENDING}"
            )
        _pass_never_on(db)
        db.execute(
            f"DELETE FROM leases WHERE attempt_id NOT IN (SELECT id FROM attempts WHERE {ATTEMPT_LIVES})"
        )
        db.execute("DELETE FROM leases WHERE gpu_uuid NOT IN (SELECT uuid FROM gpus)")
        _lease_again(db)
        for table in ("jobs", "folds"):
            db.execute(f"UPDATE {table} SET queue = 'default' WHERE queue NOT IN (SELECT name FROM queues)")
        for table in COUNTS.keys() - {"job_counts"}:
            db.execute(f"DELETE FROM {table}")
        for count in COUNTS.values():
            db.execute(count)
        _drop_danglers(db)


def _settle_live_attempts(db: sqlite3.Connection) -> None:
    """Make the jobs and their live attempts agree."""
    # an attempt that runs, of a job that does not: the job's row is the older one, or it has ended
    for row in db.execute(
        "SELECT a.id, a.number, j.id AS job_id, j.state, j.attempt FROM attempts a JOIN jobs j"
        f" ON j.id = a.job_id WHERE a.{ATTEMPT_LIVES} AND (NOT j.{IS_LIVE} OR a.number <> j.attempt)"
    ).fetchall():
        if row["state"] == State.PENDING and row["number"] > row["attempt"]:
            db.execute(
                f"UPDATE jobs SET state = '{State.RUNNING}', attempt = ? WHERE id = ?",
                (row["number"], row["job_id"]),
            )
        else:
            _end(db, row["id"])
    # a job that runs, without its attempt: the directories decide
    for row in db.execute(
        f"SELECT id, attempt FROM jobs j WHERE {IS_LIVE} AND NOT EXISTS"
        f" (SELECT 1 FROM attempts WHERE job_id = j.id AND {ATTEMPT_LIVES})"
    ).fetchall():
        there = db.execute(
            "SELECT coalesce(max(number), 0) FROM attempts WHERE job_id = ?", (row["id"],)
        ).fetchone()[0]
        db.execute(f"UPDATE jobs SET state = '{State.PENDING}', attempt = ? WHERE id = ?", (there, row["id"]))
    db.execute(
        "UPDATE jobs SET attempt = max(attempt, coalesce((SELECT max(number) FROM attempts"
        " WHERE job_id = jobs.id), 0))"
    )


def _pass_never_on(db: sqlite3.Connection) -> None:
    """Find again who can never start."""
    found: set[int] = set()
    for table, key in (("jobs", "id"), ("folds", "array_id")):
        db.execute(f"UPDATE {table} SET never_cause = NULL WHERE never_cause IS NOT NULL")
        found.update(
            row[0] for row in db.execute(f"SELECT {key} FROM {table} WHERE {IS_PENDING} AND deps_failed > 0")
        )
    never.update(db, found)


def _cut_compact_arrays(db: sqlite3.Connection) -> None:
    """Take out of the compact arrays the members that have a row of their own or are in a newer compact
    array: the two sources may have been written before and after members were expanded."""
    names = [row["name"] for row in db.execute("PRAGMA table_info(folds)")]
    compacts = db.execute("SELECT * FROM folds").fetchall()
    db.execute("DELETE FROM folds")
    for row in sorted(compacts, key=lambda one: (-one["version"], one["state"] == State.PENDING, -one["id"])):
        first, last = row["id"], row["last_id"]
        taken = [
            (job["id"], job["id"])
            for job in db.execute("SELECT id FROM jobs WHERE id BETWEEN ? AND ?", (first, last))
        ]
        taken += [
            (other["id"], other["last_id"])
            for other in db.execute(
                "SELECT id, last_id FROM folds WHERE id <= ? AND last_id >= ?", (last, first)
            )
        ]
        for begin, end in [*sorted(taken), (last + 1, last + 1)]:
            if first < begin:
                values = {**dict(row), "id": first, "last_id": begin - 1}
                db.execute(
                    f"INSERT INTO folds ({', '.join(names)})"
                    f" VALUES ({', '.join(f':{name}' for name in names)})",
                    values,
                )
            first = max(first, end + 1)


def _end(db: sqlite3.Connection, attempt_id: str) -> None:
    db.execute("DELETE FROM leases WHERE attempt_id = ?", (attempt_id,))
    db.execute(
        f"UPDATE attempts SET state = '{AttemptState.ENDED}', class = ?, rule = 'recovered',"
        " ended_at = claimed_at, explanation = 'its end was lost with the database' WHERE id = ?",
        (FailureClass.INFRA_NODE, attempt_id),
    )


def _lease_again(db: sqlite3.Connection) -> None:
    """Leases of live attempts whose rows were lost."""
    for row in db.execute(f"SELECT id, gpus, claimed_at FROM attempts WHERE {ATTEMPT_LIVES}").fetchall():
        for gpu in msgspec.json.decode(row["gpus"]):
            db.execute(
                "INSERT OR IGNORE INTO gpus (uuid, idx, name, memory_bytes, simulated, present)"
                " VALUES (?, ?, 'unknown', 0, 0, 0)",
                (gpu["uuid"], gpu["index"]),
            )
            db.execute(
                "INSERT OR IGNORE INTO leases (gpu_uuid, attempt_id, since, memory_bytes)"
                " VALUES (?, ?, ?, ?)",
                (gpu["uuid"], row["id"], row["claimed_at"], gpu.get("memory_bytes")),
            )


def _drop_danglers(db: sqlite3.Connection) -> None:
    """Rows of other tables that point to what was lost."""
    for _ in range(5):
        wrong: Iterable[Any] = db.execute("PRAGMA foreign_key_check").fetchall()
        tables = {row[0] for row in wrong}
        if not tables:
            return
        for table in tables - {"jobs", "attempts"}:
            if _has_rowid(db, table):
                db.executemany(
                    f"DELETE FROM {table} WHERE rowid = ?",
                    [(row[1],) for row in wrong if row[0] == table],
                )
            else:
                for parent_table, column, parent in {
                    (key["table"], key["from"], key["to"])
                    for key in db.execute(f"PRAGMA foreign_key_list({table})")
                }:
                    db.execute(
                        f"DELETE FROM {table} WHERE {column} IS NOT NULL AND {column} NOT IN"
                        f" (SELECT {parent} FROM {parent_table})"
                    )
