"""Retention: removes jobs, output and events that are past their limits, rows first, then files. A crash in
between leaves directories without a job, which the next pass removes. Only directories below `jobs/` and
`checkpoints/` are touched, through their own file descriptors, and no symbolic link is followed."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from leptond.attempt_files.directory import numbers, read
from leptond.base import nofollow
from leptond.base.clock import Clock
from leptond.core.retention_limits import RetentionLimits
from leptond.store import Store
from leptond.store.queue import retention
from leptond.store.queue.retention import SLICE, Due
from leptond.store.recovery import adoption

log = structlog.get_logger("leptond.retention")

OUTPUT = re.compile(r"^output(\.[0-9]{16})?\.log\Z")
PAUSE_S = 0.02
T = TypeVar("T")


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a purge, or of its dry run. `bytes`: size of the files."""

    jobs: Sequence[int]
    outputs: int
    events: int
    bytes: int


class Retention:
    """Purges what is past its limits, one pass at a time."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._jobs = store.path.parent / "jobs"
        self._checkpoints = store.path.parent / "checkpoints"
        self._one = asyncio.Lock()

    async def plan(self, limits: RetentionLimits, *, checkpoints: bool) -> Purged:
        """Return what a pass would remove now."""
        found = await self._store.browse(retention.due, limits, self._clock.wall())
        size = await asyncio.to_thread(self._sizes, found)
        if checkpoints:
            roots = await self._store.browse(retention.roots_used_only_by, found.jobs)
            size += await asyncio.to_thread(
                lambda: sum(_size(self._checkpoints / str(root)) for root in roots)
            )
        count = await self._store.browse(retention.count_events, found.events_to)
        compact = [job_id for first, last in found.compact for job_id in range(first, last + 1)]
        return Purged(jobs=[*found.jobs, *compact], outputs=len(found.outputs), events=count, bytes=size)

    def _sizes(self, found: Due) -> int:
        return sum(_size(self._jobs / str(job_id)) for job_id in found.jobs) + sum(
            one.bytes for one in found.outputs
        )

    async def purge(self, limits: RetentionLimits, *, checkpoints: bool, by: str) -> Purged:
        """Remove the jobs, outputs and events that are past their limits, in slices."""
        async with self._one:
            found = await self._store.browse(retention.due, limits, self._clock.wall())
            jobs: list[int] = []
            size = 0
            for first, last in found.compact:
                forget = partial(
                    retention.forget_compact, first=first, last=last, by=by, now=self._clock.wall()
                )
                count = await self._store.write(forget, wakes_scheduler=False)
                jobs += range(first, first + count)
            if jobs:
                # the first member of each of these arrays stands for the others; it may go now too
                found = await self._store.browse(retention.due, limits, self._clock.wall())
            for ids in _slices(found.jobs):
                gone, freed = await self.forget(ids, checkpoints=checkpoints, by=by)
                jobs += gone
                size += freed
                await asyncio.sleep(PAUSE_S)
            outputs = 0
            for part in _slices(found.outputs):
                # the files first: after a crash in between, the next pass writes the row
                for one in part:
                    size += await asyncio.to_thread(
                        remove_output, self._jobs / str(one.job_id) / str(one.number)
                    )
                attempt_ids = [one.attempt_id for one in part]
                await self._store.write(retention.output_gone, attempt_ids, wakes_scheduler=False)
                outputs += len(part)
                await asyncio.sleep(PAUSE_S)
            events = 0
            while found.events_to and (
                count := await self._store.write(
                    retention.forget_events, found.events_to, wakes_scheduler=False
                )
            ):
                events += count
                await asyncio.sleep(PAUSE_S)
        if jobs or outputs or events:
            log.info("retention.purged", jobs=len(jobs), outputs=outputs, events=events, bytes=size)
        return Purged(jobs=jobs, outputs=outputs, events=events, bytes=size)

    async def forget_compact(self, spans: Sequence[tuple[int, int]], *, by: str) -> int:
        """Remove jobs that were cancelled before they had rows of their own; return the number of them."""
        count = 0
        for first, last in spans:
            forget = partial(retention.forget_compact, first=first, last=last, by=by, now=self._clock.wall())
            count += await self._store.write(forget, wakes_scheduler=False)
        return count

    async def forget(self, ids: Sequence[int], *, checkpoints: bool, by: str) -> tuple[list[int], int]:
        """Remove finished jobs, then their files. Returns the ids that were removed and the bytes of their
        files."""
        roots = await self._store.browse(retention.roots, ids)
        forget = partial(retention.forget, ids=ids, by=by, now=self._clock.wall())
        gone = await self._store.write(forget, wakes_scheduler=False)
        size = 0
        for job_id in gone:
            size += await asyncio.to_thread(remove_tree, self._jobs, str(job_id))
        if checkpoints:
            ends = {roots[job_id] for job_id in gone if job_id in roots}
            for root in await self._store.browse(retention.unused_roots, sorted(ends)):
                size += await asyncio.to_thread(remove_tree, self._checkpoints, str(root))
        return gone, size

    async def leftovers(self) -> list[int]:
        """Remove the directories of jobs that were removed before a crash. Directories of live attempts, and
        those with a number that was never given out here, are left."""
        here = await asyncio.to_thread(numbers, self._jobs)
        highest = await self._store.browse(adoption.highest_id)
        known = await self._store.browse(adoption.known, here)
        gone = []
        for job_id in here:
            if job_id in known or job_id > highest:
                continue
            attempts = await asyncio.to_thread(numbers, self._jobs / str(job_id))
            if any(read(self._jobs, job_id, number).alive for number in attempts):
                continue
            await asyncio.to_thread(remove_tree, self._jobs, str(job_id))
            gone.append(job_id)
        return gone


def _slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for begin in range(0, len(items), SLICE):
        yield items[begin : begin + SLICE]


def _size(directory: Path) -> int:
    """Bytes of the regular files below `directory`; links are neither counted nor followed."""
    size = 0
    try:
        for _, _, files, fd in os.fwalk(directory, follow_symlinks=False):
            for name in files:
                try:
                    seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except OSError:
                    continue
                if stat.S_ISREG(seen.st_mode):
                    size += seen.st_size
    except OSError:
        pass
    return size


def remove_tree(parent: Path, name: str) -> int:
    """Remove the directory `name` in `parent`. Returns the bytes of its files. A link in its place is
    left."""
    try:
        fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        size = _size(parent / name)
        shutil.rmtree(name, dir_fd=fd)
    except FileNotFoundError:
        return 0
    except OSError as error:
        log.warning("retention.remove_failed", path=str(parent / name), error=str(error))
        return 0
    else:
        return size
    finally:
        os.close(fd)


def remove_output(directory: Path) -> int:
    """Remove the output of one attempt and keep its records. Returns the bytes of the output."""
    size = 0
    try:
        fd = nofollow.open_directory(directory)
    except OSError:
        return 0
    try:
        for name in os.listdir(fd):  # noqa: PTH208 - by descriptor
            if OUTPUT.match(name):
                size += os.stat(name, dir_fd=fd, follow_symlinks=False).st_size
                os.unlink(name, dir_fd=fd)
    except OSError as error:
        log.warning("retention.remove_failed", path=str(directory), error=str(error))
    finally:
        os.close(fd)
    return size
