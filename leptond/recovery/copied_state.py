"""A state directory that was copied or moved. Shims keep to the directory in which they were started, so a
copy shows their locks as free and lacks their records: it must neither take their jobs for lost nor give
their GPUs away, and of a queue and its copies only one may go on.

``lineage.json`` says where the queue was at its last start, and, in a directory that it has left, where it
went."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import structlog
from msgspec.structs import replace

from leptond.attempt_files import layout
from leptond.attempt_files.directory import OnDisk, live_attempts
from leptond.base.errors import EXIT_CONFIG, StartRefused, start_refused
from leptond.base.locks import machine_locks
from leptond.recovery.mark import Mark, Place, read_mark, write_mark

log = structlog.get_logger("leptond.recovery")

ADOPT = "leptond recover --adopt-copy"

MOST_FORMER = 8
"""Former places that are remembered."""


def place_of(state_dir: Path) -> Place:
    """Return the place of a state directory. Raises OSError."""
    seen = state_dir.stat()
    return Place(path=str(state_dir.absolute()), device=seen.st_dev, inode=seen.st_ino)


def check_place(state_dir: Path) -> None:
    """Raise StartRefused (78) if the queue has gone on in another directory, or if this one is a copy whose
    jobs still run in the other: a person has to say which of them is the queue. While a daemon runs it there,
    75. Raises OSError."""
    mark = read_mark(state_dir)
    why = _why_not_here(state_dir, mark)
    if why is None:
        return
    if mark is not None:
        with machine_locks(mark.lineage, state_dir):
            pass
    raise StartRefused(why, EXIT_CONFIG)


def _why_not_here(state_dir: Path, mark: Mark | None) -> str | None:
    if mark is not None and mark.moved_to is not None and _has_queue(mark.moved_to, mark.lineage, state_dir):
        there = mark.moved_to.path
        return (
            f"the queue of {state_dir} has gone on in {there}: here its jobs would run a second time. Start "
            f"leptond there (--state-dir {there}). To go on here with the queue as it was: "
            f"`{ADOPT} --state-dir {state_dir}`."
        )
    if mark is not None and mark.place is not None and _same(mark.place, place_of(state_dir)):
        return None
    running = elsewhere(state_dir)
    if not running:
        return None
    other = mark.place.path if mark is not None and mark.place is not None else "another directory"
    jobs = ", ".join(str(one.job_id) for one in running[:8]) + (" and others" if running[8:] else "")
    return (
        f"{state_dir} is a copy of {other}, whose jobs still run and write there (job {jobs}). Jobs go on. "
        f"Start leptond on {other}, or, to go on here, `{ADOPT} --state-dir {state_dir}`."
    )


def elsewhere(state_dir: Path) -> list[OnDisk]:
    """Return the attempts that are alive, and whose shims write to another directory than this one. Raises
    OSError."""
    try:
        return [one for one in live_attempts(state_dir / layout.JOBS_DIR) if one.elsewhere]
    except FileNotFoundError:
        return []


def former_places(state_dir: Path) -> list[Path]:
    """Return the directories in which shims of this queue may have left records and look for requests, the
    newest first. What belongs to another user is none."""
    mark = read_mark(state_dir)
    if mark is None:
        return []
    return [path for path in map(Path, _former(mark, str(state_dir.absolute()))) if not _is_foreign(path)]


def _is_foreign(path: Path) -> bool:
    try:
        return path.stat().st_uid != os.geteuid()
    except OSError:
        return False


def _former(mark: Mark, here: str) -> tuple[str, ...]:
    before = [*([mark.place.path] if mark.place is not None else []), *mark.former]
    return tuple(path for path in dict.fromkeys(before) if path != here)[:MOST_FORMER]


def settle_here(state_dir: Path, lineage: str, starts: int) -> None:
    """Write down that the queue `lineage` is in this directory now, and in the ones that it has left that it
    has. For the holder of the queue's lock. Raises OSError for this directory alone."""
    before = read_mark(state_dir)
    here = place_of(state_dir)
    former = _former(before, here.path) if before is not None and before.lineage == lineage else ()
    write_mark(state_dir, Mark(lineage=lineage, starts=starts, place=here, former=former))
    for path in former:
        left = Path(path)
        with contextlib.suppress(OSError):
            mark = read_mark(left)
            if mark is not None and mark.lineage == lineage and not os.path.samefile(left, state_dir):  # noqa: PTH121
                write_mark(left, replace(mark, moved_to=here))
                log.info("state.moved", before=path, now=here.path)


def adopt_copy(state_dir: Path) -> list[str]:
    """Make `state_dir`, whose lock the caller holds, the directory in which its queue goes on. Return what
    was done, in sentences. Raises StartRefused; then nothing has changed."""
    mark = read_mark(state_dir)
    if mark is None:
        raise StartRefused(f"{state_dir} has no mark of a queue (lineage.json): nothing to adopt", 78)
    try:
        with machine_locks(mark.lineage, state_dir):
            running = elsewhere(state_dir)
            if mark.moved_to is not None:
                former = dict.fromkeys([mark.moved_to.path, *mark.former])
                write_mark(state_dir, replace(mark, former=tuple(former)))
            left = former_places(state_dir)
            settle_here(state_dir, mark.lineage, mark.starts)
    except OSError as error:
        raise start_refused("the copy could not be adopted", error) from None
    said = [f"the queue goes on in {state_dir}"]
    said += [f"it has left {path}, which refuses to start from now on" for path in left if read_mark(path)]
    for one in running:
        said.append(
            f"runs: job {one.job_id}, attempt {one.number}, shim pid {one.pid}: until it ends its output and "
            f"its checkpoints go to {left[0] if left else 'where it was started'}; its end is booked here"
        )
    return said


def _same(one: Place, other: Place) -> bool:
    return (one.device, one.inode) == (other.device, other.inode)


def _has_queue(place: Place, lineage: str, state_dir: Path) -> bool:
    """Return True if the queue still is at `place`, and that is not this directory itself."""
    there = Path(place.path)
    mark = read_mark(there)
    if mark is None or mark.lineage != lineage or mark.moved_to is not None:
        return False
    try:
        return not os.path.samefile(there, state_dir)  # noqa: PTH121 - of two paths
    except OSError:
        return False
