"""Looks at the files that jobs name: at the submit, whether they are there and as what, and after a start,
whether they have been changed in between. A disk that does not answer holds up neither."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import structlog

from leptond.core.admission.admission import Admitted
from leptond.core.jobs import sources
from leptond.core.jobs.model import Job
from leptond.core.jobs.sources import Note, SourceFile
from leptond.services.source_files import look_at
from leptond.services.submit_look import Recent, Seen, SubmitLook

log = structlog.get_logger("leptond.file_look")

PATIENCE_S = 2.0
"""Longest wait for the disks of one request."""

T = TypeVar("T")


class FileLook:
    """Looks in a thread of its own. What is asked for while it looks waits, and is looked at together: under
    load a thread is woken once for many. No output may go below `state_dir`."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._waiting: list[_Asked] = []
        self._began_at: float | None = None
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._recent = Recent()

    async def at_submit(
        self,
        admitted: Sequence[Admitted],
        *,
        user: str,
        path: str,
        in_batch: bool,
        unsaid: Sequence[bool] | None = None,
    ) -> list[Seen]:
        """Look at what each spec of `user` names; `path` is the PATH of a job that sets none; `unsaid`: which
        of them may be trainings that forgot their GPU. Raises Invalid for the first that can never start; in
        a batch the pointer names it."""
        asked = unsaid if unsaid is not None else [False] * len(admitted)
        look = SubmitLook(path, self._state_dir, user, self._recent)
        if look.all_known(admitted, unsaid=asked):
            return [Seen(warnings=[])] * len(admitted)
        try:
            return await self._run(lambda: look.look(admitted, unsaid=asked, in_batch=in_batch))
        except TimeoutError:
            log.warning("file_look.no_answer", patience_s=PATIENCE_S)
            word = f"its files could not be looked at: a disk did not answer within {PATIENCE_S:.0f} s"
            return [Seen(warnings=[word])] * len(admitted)

    async def changes(self, job: Job, *, started_at: float) -> list[Note]:
        """Return a note for each file of the job's command that was changed between its submit and
        `started_at`."""
        before = sources.decode(job.sources)
        try:
            return await self._run(lambda: _changes(before, job.submitted_at, started_at))
        except TimeoutError:
            log.warning("file_look.no_answer", patience_s=PATIENCE_S, job=job.id)
            return []

    async def script_warnings(self, job: Job) -> list[str]:
        """Return a word about a job that is to run again, where the script that it has a copy of is another
        one by now."""
        if job.script_sha256 is None:
            return []
        path = str(Path(job.spec.cwd or "/", job.spec.argv[0]))
        try:
            now = await self._run(lambda: look_at(path))
        except TimeoutError:
            return []
        if now is None or now.sha256 == job.script_sha256:
            return []
        return [
            f"it runs the script as it was submitted; {path} has been changed since: submit that to run it"
        ]

    async def _run(self, work: Callable[[], T]) -> T:
        """Call `work` in a daemon thread: a hung disk must not delay the end of the process. Raises what it
        raises, and TimeoutError."""
        loop = asyncio.get_running_loop()
        if self._began_at is not None and loop.time() > self._began_at + PATIENCE_S:
            raise TimeoutError  # it still waits for a disk
        done: asyncio.Future[T] = loop.create_future()

        def run() -> Callable[[], None]:
            try:
                return functools.partial(_result, done, work())
            except Exception as error:
                return functools.partial(_failure, done, error)

        self._waiting.append(_Asked(done, run))
        self._begin(loop)
        async with asyncio.timeout(PATIENCE_S):
            return await done

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand what waits to the thread, unless it is at work."""
        asked = [one for one in self._waiting if not one.done.done()]  # others have given up
        if self._began_at is not None or not asked:
            return
        self._waiting = []
        self._began_at = loop.time()
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="file-look", daemon=True)
            self._thread.start()

        def look() -> None:
            found = [one.run() for one in asked]
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._finish, loop, found)

        self._work.put(look)

    def _finish(self, loop: asyncio.AbstractEventLoop, found: Sequence[Callable[[], None]]) -> None:
        self._began_at = None
        for tell in found:
            tell()
        self._begin(loop)

    def _serve(self) -> None:
        while True:
            self._work.get()()


class _Asked(NamedTuple):
    """A look that waits for its turn: `run` returns what tells its outcome to `done`."""

    done: asyncio.Future[Any]
    run: Callable[[], Callable[[], None]]


def _result(done: asyncio.Future[T], value: T) -> None:
    if not done.done():
        done.set_result(value)


def _failure(done: asyncio.Future[T], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)


def _changes(before: Sequence[SourceFile], submitted_at: float, started_at: float) -> list[Note]:
    found = []
    for one in before:
        now = look_at(one.path, one)
        if now is None:
            continue  # gone, or unreadable: if the command needed it, its end says so
        change = sources.change_of(one, now, submitted_at=submitted_at, started_at=started_at)
        if change is not None:
            when = _in_words(change.at, started_at) if change.at is not None else None
            found.append(Note(kind="source-changed", text=sources.sentence(change, when)))
    return found


def _in_words(at: float, now: float) -> str:
    """Return a time of the machine's own zone, with its day where that is another one than that of `now`."""
    moment, other = datetime.fromtimestamp(at).astimezone(), datetime.fromtimestamp(now).astimezone()
    return moment.strftime("%H:%M:%S" if moment.date() == other.date() else "%Y-%m-%d %H:%M:%S")
