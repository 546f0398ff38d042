"""`leptond recover`: a database that is damaged, gone, or older than the machine is rebuilt from what can
still be read of it, from a backup, and from the attempts' own directories. It runs without a daemon, and
touches no job."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec.structs import replace

from leptond.attempt_files.directory import OnDisk, live_attempts, numbers, read
from leptond.base import durable
from leptond.base.errors import StartRefused, start_refused
from leptond.base.paths import data_dir
from leptond.recovery.mark import Mark, read_mark, write_mark
from leptond.recovery.restored_database import CaughtUp, bring_up
from leptond.store import DATABASE, StoreError, StoreUnavailable, lineage_of
from leptond.store.database import backup, offline
from leptond.store.database.examine import SIDECARS, examine
from leptond.store.database.migrate import newest
from leptond.store.database.sqlite_errors import Damaged
from leptond.store.recovery import adoption
from leptond.store.recovery.salvage import Salvaged, build

DAMAGED = "damaged"
SCRATCH = ".recover"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a recovery, done or planned. `needed`: why the database could not be used (None: it
    could). `aside`: where the damaged file lies now. `live`: attempts that run."""

    needed: str | None
    salvaged: Salvaged | None
    caught: CaughtUp | None
    aside: str | None
    live: list[OnDisk]
    ended: list[OnDisk]


def recover(state_dir: Path, *, source: Path | None, dry_run: bool) -> Plan:
    """Rebuild the database of `state_dir`, whose lock the caller holds; with `dry_run` only show what would
    come of it. `source`: a backup to begin from instead of the newest good one. Raises StartRefused;
    then nothing has changed."""
    migrations = data_dir("migrations")
    known = newest(migrations)
    database = state_dir / DATABASE
    needed = _fault(state_dir, database, known)
    if needed is None and source is None:
        return Plan(needed=None, salvaged=None, caught=None, aside=None, live=_live(state_dir), ended=[])
    if source is not None:
        _check_source(source, known)
    scratch = state_dir / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    try:
        fresh = scratch / DATABASE
        base = source if source is not None else _newest_good(state_dir, known)
        # with --from the backup is what is asked for: the file that stands there is moved aside unread,
        # unless it is damaged and so would have to be read anyway
        damaged = _damaged_file(state_dir, database) if needed is not None else None
        salvaged = build(damaged, base, fresh, migrations)
        caught = _bring_up(fresh, state_dir)
        ended = [
            one
            for job_id, attempts in caught.jobs.items()
            for one in [read(state_dir / "jobs", job_id, attempts[-1])]
            if one.exit is not None
        ]
        aside = None
        if not dry_run:
            aside = _exchange(state_dir, database, fresh)
        return Plan(
            needed=needed or "asked for",
            salvaged=salvaged,
            caught=caught,
            aside=aside,
            live=_live(state_dir),
            ended=ended,
        )
    except StoreUnavailable as error:
        raise error.refusal(database) from None
    except StoreError as error:
        raise StartRefused(
            f"no sound database comes out of the recovery: {error}. Nothing was changed.", 78
        ) from None
    except OSError as error:
        raise start_refused("the recovery could not be carried out", error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fault(state_dir: Path, database: Path, known: int) -> str | None:
    """Return why the database cannot be used; None if it can. Raises StartRefused if it is of a newer
    leptond: that is nothing to recover from."""
    try:
        number = examine(database, known, whole=True)
    except Damaged as damaged:
        return str(damaged).partition(". It was not changed")[0]
    if number is None and (read_mark(state_dir) is not None or numbers(state_dir / "jobs")):
        return f"{database} is missing or empty"
    mark = read_mark(state_dir)
    if number is None or mark is None or not numbers(state_dir / "jobs"):
        return None
    # one without a name has lost its log: a start refuses it as well
    same = offline.lineage_in(database) == mark.lineage
    return None if same else f"{database} is not the database of the jobs here"


def _check_source(source: Path, known: int) -> None:
    if not source.is_file():
        raise StartRefused(f"there is no backup {source}", 78)
    if examine(source, known, whole=True) is None:
        raise StartRefused(f"{source} is empty", 78)


def _newest_good(state_dir: Path, known: int) -> Path | None:
    for one in backup.kept(state_dir):
        file = state_dir / backup.DIRECTORY / one.name
        with contextlib.suppress(StartRefused):
            if examine(file, known, whole=True) is not None:
                return file
    return None


def _damaged_file(state_dir: Path, database: Path) -> Path | None:
    """Return the file to read what is left from: the one in place, or, after a recovery that was
    interrupted, the one that it had moved aside."""
    if database.exists() and database.stat().st_size:
        return database
    aside = sorted((state_dir / DAMAGED).glob(f"*/{DATABASE}")) if (state_dir / DAMAGED).is_dir() else []
    return aside[-1] if aside else None


def _bring_up(fresh: Path, state_dir: Path) -> CaughtUp:
    """Take in what runs, and what ended unseen, into the rebuilt database."""
    with offline.opened(fresh) as db:
        lineage = lineage_of(db)
        mark = read_mark(state_dir)
        with offline.transaction(db):
            caught = bring_up(
                db,
                state_dir,
                starts=0,
                restored=True,
                now=time.time(),
                boot=time.clock_gettime(time.CLOCK_BOOTTIME),
                everything=True,
            )
            # the mark that the next start compares: it is the same queue, one start further
            number = max(adoption.starts(db), mark.starts if mark is not None else 0) + 1
            adoption.count_start(db, number)
    fresh.with_name("mark").write_text(f"{lineage} {number}")
    return caught


def _exchange(state_dir: Path, database: Path, fresh: Path) -> str | None:
    """Move the old files aside as they are, then the new one into place. A crash in between leaves no
    database, which a start refuses and the next recovery goes on from."""
    with fresh.open("rb") as data:
        os.fsync(data.fileno())
    aside = None
    present = [
        Path(f"{database}{suffix}") for suffix in ("", *SIDECARS) if Path(f"{database}{suffix}").exists()
    ]
    if present:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        aside = state_dir / DAMAGED / stamp
        aside.mkdir(mode=0o700, parents=True)
        for file in present:  # the database first: without it nothing opens its log
            file.rename(aside / file.name)
        durable.sync_directory(str(aside))
        durable.sync_directory(str(aside.parent))
        durable.sync_directory(str(state_dir))
    lineage, _, number = fresh.with_name("mark").read_text().partition(" ")
    before = read_mark(state_dir) or Mark(lineage=lineage, starts=0)
    write_mark(state_dir, replace(before, lineage=lineage, starts=int(number)))
    fresh.rename(database)
    durable.sync_directory(str(state_dir))
    return str(aside) if aside is not None else None


def _live(state_dir: Path) -> list[OnDisk]:
    try:
        return live_attempts(state_dir / "jobs")
    except OSError:
        return []


def report(plan: Plan, state_dir: Path, *, dry_run: bool, say: Callable[[str], None]) -> None:
    """Say the plan in sentences."""
    if plan.needed is None:
        say(
            f"{state_dir / DATABASE} is sound: nothing to recover. `leptond run` takes in by itself what it "
            "does not know of."
        )
    else:
        say(f"needed because: {plan.needed}")
    would = "would " if dry_run else ""
    if plan.salvaged is not None:
        one = plan.salvaged
        say(f"begins from: {f'backup {one.base}' if one.base else 'an empty queue'}")
        if one.unreadable is not None:
            say(f"the damaged file itself gives nothing: {one.unreadable}")
        elif one.read:
            say("read from the damaged file: " + ", ".join(f"{n} {t}" for t, n in one.read.items()))
        if one.refused:
            say("not fit to be kept: " + ", ".join(f"{n} {t}" for t, n in one.refused.items()))
        say(f"jobs in the new database: {one.jobs}")
    if plan.caught is not None:
        for job_id, attempts in sorted(plan.caught.jobs.items()):
            say(f"{would}take in job {job_id}, attempt {', '.join(map(str, attempts))}, from its directory")
    for one_ended in plan.ended:
        record = one_ended.exit or {}
        how = (
            record.get("exit_code")
            if record.get("exit_code") is not None
            else f"signal {record.get('signal')}"
        )
        say(f"job {one_ended.job_id} ended unseen ({how}): the next start books it")
    for live in plan.live:
        gpus = ",".join(map(str, live.gpu_indices))
        say(
            f"runs: job {live.job_id}, attempt {live.number}, shim pid {live.pid}"
            + (f", GPUs {gpus}" if gpus else "")
        )
    if plan.aside is not None:
        say(f"the old file is untouched in {plan.aside}")
    if dry_run and plan.needed is not None:
        say("this was a dry run: nothing was changed")
