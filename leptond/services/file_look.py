"""Looks at the files that jobs name: at the submit, whether they are there and as what, and after a start,
whether they have been changed in between. A disk that does not answer holds up neither."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import math
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog

from leptond.base.errors import Invalid
from leptond.base.sharing import distinct
from leptond.core.admission.admission import Admitted
from leptond.core.jobs import scripts, sources
from leptond.core.jobs.model import Job, JobSpec
from leptond.core.jobs.sources import Note, SourceFile
from leptond.services import output_file

log = structlog.get_logger("leptond.file_look")

PATIENCE_S = 2.0
"""Longest wait for the disks of one request."""

MOMENT_S = 1.0
MOST_PROGRAMS = 1000

SYSTEM = ("/usr/", "/bin/", "/sbin/", "/lib")
"""Below these nothing is a user's own code."""

T = TypeVar("T")


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for one spec: its files, encoded, and what its owner should know."""

    sources: str = "[]"
    warnings: Sequence[str] = ()


class FileLook:
    """Looks in a thread of its own. What is asked for while it looks waits, and is looked at together: under
    load a thread is woken once for many. No output may go below `state_dir`."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._waiting: list[_Asked] = []
        self._began_at: float | None = None
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._programs = _Programs()

    async def at_submit(
        self, admitted: Sequence[Admitted], *, user: str, path: str, in_batch: bool
    ) -> list[Seen]:
        """Look at what each spec of `user` names; `path` is the PATH of a job that sets none. Raises Invalid
        for the first that can never start; in a batch the pointer names it."""
        look = _Submit(path, self._state_dir, user, self._programs)
        if all(look.is_known(one) for one in distinct(admitted)):
            return [Seen(warnings=[])] * len(admitted)
        try:
            return await self._run(lambda: look.look(admitted, in_batch=in_batch))
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


# -- at the submit -------------------------------------------------------------------------------------------


_ProgramKey = tuple[str, str, str]
"""Program, directory and PATH."""


class _Programs:
    """Programs that were there and could be run a moment ago: many submits in a row name the same one."""

    def __init__(self) -> None:
        self._seen_at: dict[_ProgramKey, float] = {}

    def is_fine(self, key: _ProgramKey) -> bool:
        return time.monotonic() < self._seen_at.get(key, -math.inf) + MOMENT_S

    def note(self, key: _ProgramKey) -> None:
        if len(self._seen_at) >= MOST_PROGRAMS:
            self._seen_at.clear()
        self._seen_at[key] = time.monotonic()


class _Submit:
    """The looks of one request: jobs of a batch name the same files."""

    def __init__(self, path: str, state_dir: Path, user: str, programs: _Programs) -> None:
        self._path = path
        self._state_dir = state_dir
        self._user = user
        self._outputs: dict[str, str | None] = {}
        self._files: dict[str, SourceFile | None] = {}
        self._faults: dict[_ProgramKey, str | None] = {}
        self._programs = programs

    def look(self, admitted: Sequence[Admitted], *, in_batch: bool) -> list[Seen]:
        found: dict[int, Seen] = {}
        for position, one in enumerate(admitted):
            if id(one) in found:
                continue
            try:
                found[id(one)] = Seen(sources=self._sources(one), warnings=self._warnings(one))
            except Invalid as refusal:
                raise (refusal.within(f"/jobs/{position}") if in_batch else refusal) from None
        return [found[id(one)] for one in admitted]

    def _named(self, one: Admitted) -> list[str]:
        """Return the files that a command names."""
        spec, cwd = one.spec, one.spec.cwd or "/"
        if one.script is not None and one.script.text is not None:
            # the script itself is kept; what it starts is not
            named = scripts.named_files(["sh", *spec.argv[1:]], shell=False, cwd=cwd)
            return [*named, *scripts.named_in_script(one.script.text, cwd=cwd)]
        return list(scripts.named_files(spec.argv, shell=spec.shell, cwd=cwd))

    def _sources(self, one: Admitted) -> str:
        named = dict.fromkeys(self._named(one))
        files = [self._file(path) for path in named if not path.startswith(SYSTEM)]
        return sources.encode([file for file in files if file is not None][: scripts.MAX_FILES])

    def _file(self, path: str) -> SourceFile | None:
        if path not in self._files:
            self._files[path] = look_at(path)
        return self._files[path]

    def _warnings(self, one: Admitted) -> list[str]:
        spec = one.spec
        self._check_output(spec)
        if spec.shell:
            return []
        if one.script is not None:
            program = scripts.interpreter((one.script.text or "").encode())[0]
            there = not program.startswith("/") or Path(program).exists()
            return [] if there else [f"the interpreter {program} of the script is not there now"]
        key = self._key(spec)
        if key not in self._faults:
            self._faults[key] = _program_fault(spec, key[2])
            if self._faults[key] is None:
                self._programs.note(key)
        word = self._faults[key]
        return [word] if word is not None else []

    def _key(self, spec: JobSpec) -> _ProgramKey:
        return (spec.argv[0], spec.cwd or "/", spec.env.get("PATH") or self._path)

    def is_known(self, one: Admitted) -> bool:
        """Return True for a spec that names nothing but a program which was there a moment ago."""
        spec = one.spec
        if one.script is not None or spec.output is not None:
            return False
        if not spec.shell and not self._programs.is_fine(self._key(spec)):
            return False
        return all(path.startswith(SYSTEM) for path in self._named(one))

    def _check_output(self, spec: JobSpec) -> None:
        """Refuse an output that cannot come to be: its directory is made when the job starts. Where the name
        depends on the job, its directory is looked at. Raises Invalid."""
        if spec.output is None:
            return
        before, mark, _ = spec.output.partition("%")
        place = str(Path(before + "x").parent / "%") if mark else spec.output
        if place not in self._outputs:
            self._outputs[place] = self._output_fault(place)
        why = self._outputs[place]
        if why is not None:
            raise Invalid(
                f"the output cannot be written to {spec.output}: {why}",
                pointer="/output",
                hint="name another place with --output; /dev/null asks for no copy",
            )

    def _output_fault(self, place: str) -> str | None:
        fault = output_file.why_not(Path(place), self._state_dir, self._user)
        if fault is not None:
            return fault
        directory = Path(place).parent
        while not os.path.lexists(directory):
            directory = directory.parent
        if not directory.is_dir():
            return f"{directory} is not a directory"
        if not os.access(directory, os.W_OK | os.X_OK):
            return f"{directory} is not writable for the user that leptond runs as"
        return None


def _program_fault(spec: JobSpec, path: str) -> str | None:
    """Say what is wrong with the program of a command; None: nothing. Raises Invalid for what no program can
    be called."""
    program = spec.argv[0]
    if "/" not in program:
        if shutil.which(program, path=path) is not None:
            return None
        _refuse_misquoted(spec)
        return f"{program!r} is not on the job's PATH now; it is looked for again when the job starts"
    file = Path(spec.cwd or "/", program)
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        _refuse_misquoted(spec)
        return f"there is no program {file} now"
    except OSError as error:
        return f"the program {file} cannot be looked at: {error.strerror}"
    if stat.S_ISDIR(mode):
        return f"{file} is a directory, not a program"
    if not os.access(file, os.X_OK):
        return f"the program {file} is not executable"
    with contextlib.suppress(OSError), file.open("rb") as opened:
        first = opened.read(512)
        needed = scripts.interpreter(first)[0]
        if first.startswith(b"#!") and needed.startswith("/") and not Path(needed).exists():
            return f"{needed}, which {file} is to be run with, is not there now"
    return None


def _refuse_misquoted(spec: JobSpec) -> None:
    wrong = scripts.misquoted(spec.argv)
    if wrong is not None:
        raise Invalid(wrong[0], pointer="/argv/0", hint=wrong[1])


# -- files ---------------------------------------------------------------------------------------------------


def look_at(path: str, before: SourceFile | None = None) -> SourceFile | None:
    """Return a regular file as it is now; None where there is none that can be looked at. It is not read when
    it looks as it did `before`."""
    try:
        if not Path(path).is_file():  # opening a device may do something
            return None
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            return None
        now = SourceFile(
            path=path, size=seen.st_size, modified_ns=seen.st_mtime_ns, status_ns=seen.st_ctime_ns
        )
        if before is not None and sources.looks_same(before, now):
            return before
        if seen.st_size > sources.MAX_HASHED_BYTES:
            return now
        with os.fdopen(os.dup(fd), "rb") as file:
            digest = hashlib.sha256(file.read(sources.MAX_HASHED_BYTES + 1)).hexdigest()
        return msgspec.structs.replace(now, sha256=digest)
    except OSError:
        return None
    finally:
        os.close(fd)


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
