"""Copies of jobs' output at paths of the users' own (``submit --output``).

While an attempt runs the path is a link to its output, so that it can be followed; when it has ended a file
takes its place, with the output of all attempts so far. The disk that the path is on may hang or be full:
that holds up nothing but these copies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from leptond.attempt_files.output_log import JobLog
from leptond.core.jobs.output_path import expand
from leptond.store import Store
from leptond.store.upkeep import output_copies

log = structlog.get_logger("leptond.outputs")

GATHER_S = 0.25
"""How long after a commit the events are read: many commits make one read."""

PATIENCE_S = 60.0
LIMIT = 200
CHUNK = 1 << 20


class OutputCopies:
    """Follows the events and keeps the copies."""

    def __init__(self, store: Store, jobs_dir: Path) -> None:
        self._store = store
        self._jobs_dir = jobs_dir
        self._changed = asyncio.Event()
        self._thread: threading.Thread | None = None
        store.on_commit(self._changed.set)

    async def run(self) -> None:
        """Until cancelled."""
        position: int | None = None
        while True:
            self._changed.clear()
            try:
                if position is None:
                    position = await self._store.write(output_copies.position)
                due, newest = await self._store.read(output_copies.after, position, limit=LIMIT)
                for one in due:
                    await self._do(one)
                if due:
                    await self._store.write(output_copies.passed, newest)
                position = newest
            except sqlite3.OperationalError as error:
                log.warning("copies of outputs cannot be made now", error=str(error))
                await asyncio.sleep(5.0)
                continue
            if len(due) < LIMIT:
                await self._changed.wait()
                await asyncio.sleep(GATHER_S)

    async def _do(self, one: output_copies.Due) -> None:
        job = one.job
        path = Path(
            expand(
                job.spec.output or "",
                job_id=job.id,
                array_id=job.array_id,
                array_index=job.array_index,
                name=job.name,
                user=job.user,
            )
        )
        directory = self._jobs_dir / str(job.id)
        work = _copy if one.over else _link
        try:
            await self._apart(lambda: work(path, directory, one.attempt))
        except (OSError, TimeoutError) as error:
            log.warning(
                "a job's output could not be put where it asked",
                job=job.ref,
                path=str(path),
                error=str(error) or f"the disk does not answer within {PATIENCE_S:.0f} s",
            )

    async def _apart(self, work: Callable[[], None]) -> None:
        """Does `work` in a thread that nobody waits for longer than PATIENCE_S, not even the daemon's end: it
        may hang on a dead file server. Raises what it raises, and TimeoutError."""
        if self._thread is not None and self._thread.is_alive():
            raise TimeoutError("the disk of an earlier copy does not answer")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Exception | None] = loop.create_future()

        def run() -> None:
            failure: Exception | None = None
            try:
                work()
            except Exception as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_tell, done, failure)

        self._thread = threading.Thread(target=run, name="outputs", daemon=True)
        self._thread.start()
        async with asyncio.timeout(PATIENCE_S):
            failure = await done
        self._thread.join(1.0)
        if failure is not None:
            raise failure


def _tell(done: asyncio.Future[Exception | None], failure: Exception | None) -> None:
    if not done.done():  # nobody waits any longer
        done.set_result(failure)


def _link(path: Path, directory: Path, attempt: int) -> None:
    aside = path.with_name(f".{path.name}.leptond")
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()
    aside.symlink_to(directory / str(attempt) / "output.log")
    aside.replace(path)


def _copy(path: Path, directory: Path, last: int) -> None:
    """The output of the attempts up to `last`, as a file that takes the place of what is at `path`."""
    aside = path.with_name(f".{path.name}.leptond")
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(aside, flags, 0o644), "wb") as file:
            for number in range(1, last + 1):
                source, offset = JobLog(directory / str(number)), 0
                while True:
                    data, offset, skipped = source.read(offset, CHUNK)
                    if skipped:
                        file.write(f"[{skipped} bytes of output were not kept]\n".encode())
                    if not data:
                        break
                    file.write(data)
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
