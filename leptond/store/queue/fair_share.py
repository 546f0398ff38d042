"""Fair share and caps: the usage of users and projects, and their limits."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import msgspec

from leptond.base.errors import NotFound, TooMany
from leptond.core.scheduling.fair_share import Caps, Kind, Limits, UsageOwner, Weights, accrued, decayed
from leptond.store.database import events, rows
from leptond.store.database.conditions import ATTEMPT_LIVES, IS_LIVE
from leptond.store.queue.queues import pending

HALF_LIFE_S = 7 * 86400.0
"""Where the daemon has not said otherwise yet."""


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that are set for one user or project; None: as the configuration says."""

    kind: Kind
    name: str
    max_gpus: int | None = None
    max_pending: int | None = None
    weight: float | None = None


msgspec.json.Decoder(Limit)  # found out about before there are threads (see rows.py)


def half_life(db: sqlite3.Connection) -> float:
    """The half-life by which the table ``shares`` fades, in seconds."""
    row = db.execute("SELECT value FROM meta WHERE key = 'share_half_life_s'").fetchone()
    return float(row["value"]) if row is not None else HALF_LIFE_S


def configure(db: sqlite3.Connection, half_life_s: float, *, now: float) -> None:
    """Fade what was used up to `now` by the old half-life; from then on the new one counts. What has faded
    to nothing is forgotten."""
    before = half_life(db)
    for row in db.execute("SELECT * FROM shares").fetchall():
        left = decayed(row["gpu_s"], now - row["at"], before)
        key = (row["user"], row["project"], row["queue"])
        if left < 0.01:
            db.execute("DELETE FROM shares WHERE user = ? AND project = ? AND queue = ?", key)
        else:
            db.execute(
                "UPDATE shares SET gpu_s = ?, at = ? WHERE user = ? AND project = ? AND queue = ?",
                (left, now, *key),
            )
    db.execute(
        "INSERT OR REPLACE INTO meta (key, value) VALUES ('share_half_life_s', ?)", (repr(half_life_s),)
    )


def book(db: sqlite3.Connection, owner: UsageOwner, *, gpus: float, held_s: float, now: float) -> None:
    """Add the use of an attempt that has just ended."""
    key = (owner.user, owner.project or "", owner.queue)
    row = db.execute(
        "SELECT (SELECT value FROM meta WHERE key = 'share_half_life_s') AS half_life_s, gpu_s, at"
        " FROM (SELECT 1) LEFT JOIN shares ON user = ? AND project = ? AND queue = ?",
        key,
    ).fetchone()
    half_life_s = float(row["half_life_s"]) if row["half_life_s"] is not None else HALF_LIFE_S
    before = decayed(row["gpu_s"], now - row["at"], half_life_s) if row["gpu_s"] is not None else 0.0
    db.execute(
        "INSERT OR REPLACE INTO shares (user, project, queue, gpu_s, at) VALUES (?, ?, ?, ?, ?)",
        (*key, before + accrued(gpus, held_s, half_life_s), now),
    )


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The usage of a live attempt: so many GPUs (a share counts as its part) for so long."""

    owner: UsageOwner
    gpus: float
    held_s: float


def live(db: sqlite3.Connection, *, now: float, boot: float, boot_id: str | None) -> list[Held]:
    """Return the usage of what runs now (index jobs_live)."""
    return [
        Held(
            owner=UsageOwner(row["user"], row["project"], row["queue"]),
            gpus=row["parts"],
            held_s=boot - row["claimed_boot"]
            if boot_id is None or row["boot_id"] == boot_id
            else now - row["claimed_at"],
        )
        for row in db.execute(
            "SELECT jobs.user, jobs.project, jobs.queue, attempts.claimed_at, attempts.claimed_boot,"
            " attempts.boot_id, (SELECT coalesce(sum(CASE WHEN leases.memory_bytes IS NULL THEN 1.0"
            " ELSE 1.0 * leases.memory_bytes / gpus.memory_bytes END), 0.0) FROM leases"
            " JOIN gpus ON gpus.uuid = leases.gpu_uuid WHERE leases.attempt_id = attempts.id) AS parts"
            " FROM jobs INDEXED BY jobs_live JOIN attempts ON attempts.job_id = jobs.id"
            f" WHERE jobs.{IS_LIVE} AND attempts.{ATTEMPT_LIVES}"
        )
    ]


def used(
    db: sqlite3.Connection, *, now: float, boot: float, boot_id: str | None = None
) -> dict[UsageOwner, float]:
    """Return the usage of all owners, decayed up to now, in GPU-seconds: of ended and of running attempts."""
    half_life_s = half_life(db)
    found = {
        UsageOwner(row["user"], row["project"] or None, row["queue"]): decayed(
            row["gpu_s"], now - row["at"], half_life_s
        )
        for row in db.execute("SELECT * FROM shares")
    }
    for one in live(db, now=now, boot=boot, boot_id=boot_id):
        found[one.owner] = found.get(one.owner, 0.0) + accrued(one.gpus, one.held_s, half_life_s)
    return found


def weights(db: sqlite3.Connection) -> Weights:
    """Return the weights of the owners that are due more than others."""
    of: dict[str, dict[str, float]] = {"user": {}, "project": {}}
    for row in db.execute("SELECT kind, name, weight FROM limits WHERE weight IS NOT NULL"):
        of[row["kind"]][row["name"]] = row["weight"]
    queues = {row["name"]: row["weight"] for row in db.execute("SELECT name, weight FROM queues")}
    return Weights(users=of["user"], projects=of["project"], queues=queues)


def every(db: sqlite3.Connection) -> list[Limit]:
    """All that is set for single users and projects."""
    return [
        rows.shown(dict(row), Limit, instead={"kind": "user"})
        for row in db.execute("SELECT * FROM limits ORDER BY kind, name")
    ]


def limits(db: sqlite3.Connection, usual: Limits) -> Limits:
    """The caps that count, over those that the configuration has for everybody."""
    own: dict[tuple[Kind, str], Caps] = {
        (one.kind, one.name): Caps(max_gpus=one.max_gpus, max_pending=one.max_pending) for one in every(db)
    }
    return msgspec.structs.replace(usual, own=own)


def set_limit(db: sqlite3.Connection, limit: Limit, *, by: str, now: float) -> None:
    """Set what one user or project may have, in place of what was set before."""
    values = msgspec.structs.asdict(limit)
    db.execute(
        "INSERT OR REPLACE INTO limits (kind, name, max_gpus, max_pending, weight)"
        " VALUES (:kind, :name, :max_gpus, :max_pending, :weight)",
        values,
    )
    events.append(db, now, "limits.changed", data={**values, "by": by})


def remove_limit(db: sqlite3.Connection, kind: Kind, name: str, *, by: str, now: float) -> None:
    """Forget what was set: the configuration counts again. Raises NotFound."""
    gone = db.execute("DELETE FROM limits WHERE kind = ? AND name = ?", (kind, name)).rowcount
    if not gone:
        raise NotFound(f"nothing is set for the {kind} {name}", hint="`leptonctl limits` lists what is set")
    events.append(db, now, "limits.changed", data={"kind": kind, "name": name, "removed": True, "by": by})


def check_pending(
    db: sqlite3.Connection, usual: Limits, *, user: str, asked: int, projects: dict[str, int]
) -> None:
    """Raise TooMany when so many more jobs of `user`, and of the projects, would pass a cap on jobs that
    wait."""

    def waiting(kind: str, name: str) -> int:
        return pending(db, kind, name)

    check_caps(limits(db, usual), waiting, user=user, asked=asked, projects=projects)


def check_caps(
    caps: Limits,
    waiting: Callable[[str, str], int],
    *,
    user: str,
    asked: int,
    projects: dict[str, int],
) -> None:
    """Raise TooMany as :func:`check_pending`; `waiting` counts the jobs of a user or project that wait."""
    wanted: list[tuple[Kind, str, int]] = [("user", user, asked)]
    wanted += [("project", name, count) for name, count in projects.items()]
    for kind, name, more in wanted:
        cap = caps.of(kind, name).max_pending
        if cap is None:
            continue
        now = waiting(kind, name)
        if now + more > cap:
            raise TooMany(
                f"{kind} {name} may have {cap} jobs waiting and has {now}; this is {more} more",
                hint="wait until some have started, or cancel some; whoever runs leptond can raise the cap:"
                f" leptonctl limits set {kind} {name} --max-pending N",
                headers={"Retry-After": "60"},
            )


def waiting(db: sqlite3.Connection) -> dict[tuple[Kind, str], int]:
    """Count the waiting jobs of each user and project."""
    return {
        (row["kind"], row["name"]): row["n"]
        for row in db.execute("SELECT * FROM pending_counts WHERE kind <> 'queue' AND n > 0")
    }
