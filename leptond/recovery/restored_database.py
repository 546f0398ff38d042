"""Before a daemon works with a database: does it know what runs on the machine? A backup that was put back,
or a file that lost its log, is older than the attempts' directories. What it does not know is taken in
before anything else happens, so that no job is started a second time and no GPU is given away twice."""

from __future__ import annotations

import contextlib
import getpass
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import structlog

from leptond.attempt_files.directory import OnDisk, numbers, read
from leptond.attempt_files.directory import script as script_of
from leptond.base.clock import Clock, kernel_boot_id
from leptond.base.errors import StartRefused
from leptond.core.jobs.model import Identity
from leptond.engines import procs
from leptond.recovery.copied_state import settle_here
from leptond.recovery.mark import read_mark
from leptond.store import DATABASE, Connection, Store, StoreError
from leptond.store.database.offline import lineage_in
from leptond.store.planning import successors
from leptond.store.queue import gpus as gpu_rows
from leptond.store.recovery import adoption

log = structlog.get_logger("leptond.recovery")


class CaughtUp(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts that had to be taken in: job ids with the numbers of their unknown attempts. `restored`:
    the database turned out to be older than the machine."""

    jobs: Mapping[int, list[int]]
    restored: bool


def guard(state_dir: Path) -> None:
    """Raise StartRefused (78), before anything is opened for writing, when the database is gone though
    there was one (a new one would give out the numbers of its jobs again), or is another one."""
    try:
        size = (state_dir / DATABASE).stat().st_size
    except FileNotFoundError:
        size = 0
    if size == 0 and (read_mark(state_dir) is not None or numbers(state_dir / "jobs")):
        raise StartRefused(
            f"{state_dir / DATABASE} is missing or empty, and this directory has had a queue. Jobs that run "
            "go on. Next: `leptond recover` rebuilds it from a backup and from the jobs' own directories.",
            78,
        )
    if size and read_mark(state_dir) is not None:
        with contextlib.suppress(StoreError, OSError):
            check_lineage(state_dir, lineage_in(state_dir / DATABASE))


def check_lineage(state_dir: Path, lineage: str | None) -> None:
    """Raise StartRefused (78) if the database is another one than the directories belong to."""
    mark = read_mark(state_dir)
    if mark is not None and mark.lineage != lineage and numbers(state_dir / "jobs"):
        raise StartRefused(
            f"{state_dir / DATABASE} is not the database of the jobs in {state_dir / 'jobs'} (it is "
            f"{lineage or 'unnamed'}, they are of {mark.lineage}). Jobs that run go on. Put the right one "
            "back, or rebuild it: `leptond recover` (`--from BACKUP` names the backup to begin from).",
            78,
        )


def missing(db: Connection, jobs_dir: Path, *, everything: bool = False) -> dict[int, list[OnDisk]]:
    """Return the attempts in `jobs_dir` that `db` does not know, by job id. A job that has ended cannot have
    more than it knows, and a number that was given out and is not there was purged; with `everything` (rows
    may have been lost) the latter are taken for unknown too."""
    highest = adoption.highest_id(db)
    here = numbers(jobs_dir)
    unfinished = adoption.unfinished(db, here)
    lost = set()
    if everything:
        lost = set(here) - adoption.known(db, here)
    meant = {(one.job_id, one.number) for one in successors.named(db)}
    by_index = {gpu.index: gpu.uuid for gpu in gpu_rows.known(db)}
    found: dict[int, list[OnDisk]] = {}
    for job_id in here:
        if job_id in unfinished:
            after = unfinished[job_id].attempt
        elif job_id > highest or job_id in lost:
            after = 0
        else:
            continue
        fresh = [read(jobs_dir, job_id, n) for n in numbers(jobs_dir / str(job_id)) if n > after]
        # one that has started without the daemon is claimed by reconcile.settle
        fresh = [one for one in fresh if (job_id, one.number) not in meant]
        if fresh:
            found[job_id] = [_with_gpus(one, by_index) for one in fresh]
    return found


def _environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with; empty if it cannot be read."""
    try:
        items = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (item.decode("utf-8", "replace").partition("=") for item in items if item)
    return {name: value for name, _, value in pairs}


def _with_gpus(one: OnDisk, by_index: Mapping[int, str]) -> OnDisk:
    """A live attempt of 0.1.0, whose directory does not say which GPUs it has: its processes do, by UUID or
    by index (`by_index`: the UUIDs of the known ones)."""
    if one.claim or not one.alive:
        return one
    for pid, attempt_id in procs.cookies().items():
        if attempt_id == one.attempt_id:
            env = _environment(pid)
            names = [name for name in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
            indices = [int(n) for n in env.get("LEPTOND_GPU_IDS", "").split(",") if n.isdecimal()]
            uuids = [by_index.get(int(name), name) if name.isdecimal() else name for name in names]
            gpus = [{"uuid": uuid, "index": index} for uuid, index in zip(uuids, indices, strict=False)]
            return replace(one, claim={"gpus": gpus})
    return one


def bring_up(
    db: Connection,
    state_dir: Path,
    *,
    starts: int,
    restored: bool,
    now: float,
    boot: float,
    everything: bool = False,
) -> CaughtUp:
    """Take in what `db` does not know, in the caller's transaction. `starts` is what the state directory
    has counted."""
    jobs_dir = state_dir / "jobs"
    restored = restored or adoption.is_copy(db) or adoption.starts(db) < starts
    if restored or everything:
        successors.unname(db, [one.attempt_id for one in successors.named(db)])  # these are of another day
    found = missing(db, jobs_dir, everything=everything)
    user = getpass.getuser()
    # a later start of a GPU's holder wins over what the older database says
    for job_id, attempts in sorted(found.items(), key=lambda item: _since(item[1][-1])):
        script = script_of(jobs_dir, attempts[-1])
        adoption.take_in(db, job_id, attempts, user=user, now=now, boot=boot, script=script)
    for attempt_id, job_id, number in adoption.unidentified(db):
        one = read(jobs_dir, job_id, number)
        if one.attempt_id == attempt_id and one.pid:
            shim = Identity(boot_id=one.boot_id, pid=one.pid, start_ticks=one.start_ticks)
            adoption.identify(db, attempt_id, shim)
    if found or restored:
        adoption.jump(db, max(numbers(jobs_dir), default=0))
    caught: dict[int, list[int]] = defaultdict(list)
    for job_id, attempts in found.items():
        caught[job_id] = [one.number for one in attempts]
    return CaughtUp(jobs=dict(caught), restored=restored or bool(found))


def _since(one: OnDisk) -> float:
    return float(one.claim.get("claimed_at") or 0.0)


async def catch_up(store: Store, clock: Clock) -> CaughtUp:
    """Take in what the database does not know at the start of a daemon, before any request is answered."""
    state_dir = store.path.parent
    mark = read_mark(state_dir)
    counted = mark.starts if mark is not None and mark.lineage == store.lineage else 0

    def change(db: Connection) -> tuple[CaughtUp, int]:
        caught = bring_up(db, state_dir, starts=counted, restored=False, now=clock.wall(), boot=clock.boot())
        number = max(counted, adoption.starts(db)) + 1
        adoption.count_start(db, number)
        return caught, number

    caught, number = await store.write(change)
    try:
        settle_here(state_dir, store.lineage, number)
    except OSError as error:  # a full disk: the mark then stands one start back, which is no harm
        log.warning("database.mark_not_written", error=str(error))
    if caught.restored:
        log.warning(
            "database.restored",  # it was older than the machine: what it did not know was taken in
            jobs=sorted(caught.jobs),
            boot=kernel_boot_id(),
        )
    return caught
