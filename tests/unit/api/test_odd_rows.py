"""No row takes a list or a view down, whatever stands in it: each column of each table that views read gets
values that leptond would never write there."""

from __future__ import annotations

import contextlib
import sqlite3

import msgspec
import pytest

from leptond.config import Hook, WebhookSettings
from leptond.store import DATABASE

ODD = [
    b"\x00\xff",
    "odd",
    "",
    "[]",
    '{"argv": [1]}',
    '{"x": {"y": 1e999}}',
    -1,
    0.5,
    10**18,
    -(2**63),
    9e999,
    -9e999,
    1e308,
    None,
]
NOT_UTF8 = "CAST(x'41ff42' AS TEXT)"

COMMON = ["/v1/status", "/v1/jobs", "/v1/jobs?order=queue", "/v1/events", "/metrics"]
ROUTES = {
    "jobs": [
        *COMMON,
        "/v1/jobs/1",
        "/v1/jobs/1/why",
        "/v1/jobs/2",
        "/v1/timeline",
        "/v1/sweeps",
        "/v1/sweeps/4",
        "/v1/arrays/4",
        "/v1/plan",
        "/v1/shares",
        "/v1/queues",
        "/v1/usage",
    ],
    "attempts": [
        *COMMON,
        "/v1/jobs/1/attempts",
        "/v1/jobs/2/gpus",
        "/v1/jobs/1/log",
        "/v1/timeline",
        "/v1/gpus",
        "/v1/usage",
        "/v1/sweeps/4",
    ],
    "events": ["/v1/events", "/v1/jobs/1/metrics", "/v1/webhooks"],
    "folds": [*COMMON, "/v1/plan", "/v1/arrays/7", "/v1/jobs/7_300", "/v1/queues"],
    "gpus": [*COMMON, "/v1/gpus", "/v1/gpus/history", "/v1/plan", "/v1/queues"],
    "queues": ["/v1/queues", "/v1/status", "/v1/shares", "/v1/plan"],
    "queue_gpus": ["/v1/queues", "/v1/gpus", "/v1/status"],
    "limits": ["/v1/shares", "/v1/status", "/v1/plan"],
    "shares": ["/v1/shares", "/v1/queues", "/v1/status"],
    "budgets": ["/v1/budgets"],
    "spend": ["/v1/budgets", "/v1/shares"],
    "metrics": ["/v1/jobs/1/metrics"],
    "curves": ["/v1/jobs/1/metrics"],
    "sweeps": ["/v1/sweeps", "/v1/sweeps/4"],
    "trials": ["/v1/sweeps", "/v1/sweeps/4"],
    "rungs": ["/v1/sweeps", "/v1/sweeps/4"],
    "dependencies": ["/v1/jobs/3", "/v1/jobs/3/why"],
    "array_dependencies": ["/v1/jobs/3", "/v1/jobs/3/why"],
    "leases": ["/v1/gpus", "/v1/status", "/v1/plan", "/v1/queues"],
    "webhooks": ["/v1/webhooks", "/metrics"],
    "webhook_deliveries": ["/v1/webhooks"],
    "attempt_use": ["/v1/jobs/1/gpus", "/v1/usage"],
    "gpu_prices": ["/v1/usage", "/metrics"],
    "gpu_service": ["/v1/usage", "/metrics"],
    "runs": ["/v1/plan", "/v1/status"],
    "meta": ["/v1/plan", "/v1/status"],
}
"""The tables that views read, and the views that read them."""

KEYS = {("jobs", "id"), ("events", "id"), ("folds", "id"), ("sweeps", "id"), ("rungs", "id")} | {
    ("webhook_deliveries", "id"),
    ("trials", "job_id"),
}
"""Columns that SQLite itself keeps to whole numbers."""


@pytest.fixture
def settings(settings):
    return msgspec.structs.replace(
        settings, webhooks=WebhookSettings(hooks=[Hook(name="hook", url="http://127.0.0.1:1/x")])
    )


async def fill(world):
    """A queue with something of everything."""
    now = world.context.clock.wall()
    await world.submit(gpus=1, labels={"a": "b"})
    await world.submit(gpus=1)
    await world.submit(after=["1"], project="vision")
    answer = await world.post("/v1/sweeps", {"job": {"argv": ["true"], "gpus": 1}, "grid": {"lr": [1, 2, 3]}})
    assert answer.status == 201, answer.data
    await world.submit(array="0-999", gpus=1)
    assert (await world.post("/v1/queues", {"name": "big", "gpus": ["1"]})).status == 201
    assert (await world.request("PUT", "/v1/limits/user/ann", {"max_gpus": 3})).status == 200
    assert (await world.request("PUT", "/v1/budgets/user/ann", {"gpu_hours": 3})).status == 200
    await world.finish(await world.start(1, "GPU-0"))
    await world.start(2, "GPU-0")
    with contextlib.closing(raw(world)) as db:
        for statement in (
            "INSERT INTO curves (job_id, stride, seen, kept) VALUES (1, 1, 1, 1)",
            f"INSERT INTO metrics (job_id, n, attempt, step, at, data) VALUES (1, 0, 1, 1, {now}, '{{}}')",
            f"INSERT INTO rungs (sweep_id, job_id, rung, step, value, at) VALUES (4, 4, 1, 1, 0.5, {now})",
            "UPDATE trials SET last = 0.5, last_step = 1 WHERE job_id = 4",
            "INSERT INTO array_dependencies VALUES (3, 1, 'ok', 1, 0)",
            "INSERT OR IGNORE INTO webhooks (name, event_id) VALUES ('hook', 0)",
            "INSERT INTO webhook_deliveries (hook, event_id, event, at, tries, result)"
            f" VALUES ('hook', 1, 'job.state', {now}, 1, 'failed')",
            "INSERT OR IGNORE INTO attempt_use (attempt_id, gpu_uuid) SELECT id, 'GPU-0' FROM attempts",
            f"INSERT OR IGNORE INTO gpu_prices VALUES ('GPU-0', {now - 100}, 5, 'EUR', 'x', NULL, NULL)",
            f"INSERT OR IGNORE INTO gpu_service VALUES ('GPU-0', {now - 100}, 1, NULL, NULL)",
            f"INSERT OR IGNORE INTO runs VALUES ('root', '', 1, 5, 5, 5, {now})",
            f"INSERT OR IGNORE INTO shares VALUES ('root', '', 'default', 5, {now})",
            "INSERT OR IGNORE INTO spend (day, user) VALUES (1, 'ann')",
        ):
            db.execute(statement)


def raw(world):
    """A connection that writes anything."""
    db = sqlite3.connect(world.context.places.state_dir / DATABASE, isolation_level=None, timeout=30)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA ignore_check_constraints = ON")
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    return db


def columns(db, table):
    return [
        row["name"]
        for row in db.execute(f"PRAGMA table_info({table})").fetchall()
        if (table, row["name"]) not in KEYS
    ]


@contextlib.contextmanager
def written(db, table, column, value):
    """One row with an odd value in a column; False where SQLite itself refuses it."""
    where = "rowid" if table in ("jobs", "events", "folds", "sweeps", "trials", "rungs") else None
    if where is None:
        keys = [row["name"] for row in db.execute(f"PRAGMA table_info({table})") if row["pk"]]
        where = keys[0]
    db.execute("BEGIN IMMEDIATE")
    kept = [tuple(row) for row in db.execute(f"SELECT * FROM {table}")]
    try:
        text = value if value is NOT_UTF8 else "?"
        db.execute(
            f"UPDATE {table} SET {column} = {text}"
            f" WHERE {where} = (SELECT {where} FROM {table} ORDER BY 1 LIMIT 1)",
            () if value is NOT_UTF8 else (value,),
        )
        db.execute("COMMIT")
    except (sqlite3.Error, OverflowError):
        db.execute("ROLLBACK")
        yield False
        return
    try:
        yield True
    finally:
        db.execute("BEGIN IMMEDIATE")
        db.execute(f"DELETE FROM {table}")
        marks = ", ".join("?" * len(kept[0]))
        db.executemany(f"INSERT INTO {table} VALUES ({marks})", kept)
        db.execute("COMMIT")


async def look(world, table, values, most=100):
    """Views that broke, with what broke them."""
    broken, tried = [], 0
    with contextlib.closing(raw(world)) as db:
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone()[0], f"{table} is empty"
        for number, column in enumerate(columns(db, table)):
            for value in values(number):
                with written(db, table, column, value) as was:
                    if not was:
                        continue
                    tried += 1
                    for route in ROUTES[table][:most]:
                        answer = await world.get(route)
                        if answer.status >= 500:
                            broken.append((route, table, column, value))
    return broken, tried


@pytest.mark.parametrize("table", ROUTES)
async def test_an_odd_row_takes_no_view_down(world, table):
    await fill(world)

    # one of them for each column, another for the next one
    def some(number):
        return [[NOT_UTF8, *ODD][number % (len(ODD) + 1)]]

    broken, tried = await look(world, table, some, most=6)
    assert tried, "nothing was written"
    assert broken == []


@pytest.mark.slow
@pytest.mark.parametrize("table", ROUTES)
async def test_every_odd_value_in_every_column(world, table):
    await fill(world)
    broken, _ = await look(world, table, lambda number: [NOT_UTF8, *ODD])
    assert broken == []


async def test_a_job_that_cannot_be_read_says_so_and_the_others_are_as_they_were(world):
    first, second = await world.submit(name="first"), await world.submit(name="second")
    with contextlib.closing(raw(world)) as db:
        db.execute("UPDATE jobs SET spec = '{\"argv\": 5}', begin_at = -1e300 WHERE id = ?", (first,))
    for order in ("newest", "queue"):
        items = (await world.get(f"/v1/jobs?order={order}")).json["items"]
        shown = {job["id"]: job for job in items}
        assert set(shown) == {first, second}
        assert shown[first]["explanation"] == "its row in the database cannot be read: spec"
        assert (shown[first]["name"], shown[first]["state"]) == ("first", "pending")
        assert shown[first]["eligible_at"] == "0001-01-02T00:00:00Z"
        assert shown[second]["explanation"] is None
    one = await world.get(f"/v1/jobs/{first}")
    assert one.json["explanation"] == "its row in the database cannot be read: spec"
    refused = await world.request("PATCH", f"/v1/jobs/{first}", {"priority": 1})
    assert (refused.status, refused.json["type"]) == (409, "/problems/wrong-state")
    assert (await world.post(f"/v1/jobs/{first}/cancel")).status == 202
    assert (await world.request("DELETE", f"/v1/jobs/{first}")).status == 204
    assert [job["id"] for job in (await world.get("/v1/jobs")).json["items"]] == [second]
