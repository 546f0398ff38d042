"""Functions run as jobs, from a notebook: :class:`LeptonExecutor` is a :class:`concurrent.futures.Executor`.

>>> from leptond import LeptonExecutor                                     # doctest: +SKIP
>>> with LeptonExecutor(gpus=1, time_limit_s=3600) as lept:                # doctest: +SKIP
...     future = lept.submit(train, lr=3e-4)
...     print(future.job_id, future.result())
...     print(list(lept.map(evaluate, checkpoints)))

A call is pickled into a file below `folder` and becomes a job that runs ``python -m leptond.call FILE`` in
this interpreter; the value or the exception is left beside it (:mod:`leptond.call`). Neither goes through the
queue's database, and both outlive this process: :meth:`LeptonExecutor.attach`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from concurrent.futures import wait as wait_for
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from leptond import call
from leptond.base.paths import home
from leptond.base.usage import UsageError
from leptond.client import torchrun
from leptond.client.call_result import JobFailed, RemoteError, RemoteTraceback
from leptond.client.errors import ApiError, ClientError
from leptond.client.futures import JobFuture, Watch
from leptond.client.job_spec import name_of
from leptond.client.sdk import Client
from leptond.core.jobs.model import JobSpec
from leptond.core.jobs.states import TERMINAL

__all__ = ["JobFailed", "JobFuture", "LeptonExecutor", "RemoteError", "RemoteTraceback"]

P = ParamSpec("P")
T = TypeVar("T")

KEEP_S = 30 * 86400.0
BATCH = 200
"""Jobs of a map that go in one request."""

OURS = frozenset({"argv", "shell", "array", "script"})
SPEC = frozenset(JobSpec.__struct_fields__) - OURS
MODULE = "leptond.call"


class Calls:
    """The files of one executor's calls: a directory of its own below `folder`. Its name is a number, and
    those of the calls are the functions': the daemon expects a command to run as long as it did before,
    whatever the numbers in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = folder / f"{time.strftime('%Y%m%d')}-{secrets.randbelow(10**12):012}"
        self._numbers = itertools.count(1)
        self._how = "cloudpickle" if _has_cloudpickle() else "pickle"
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            self.directory.mkdir()
            # jobs of another user can work in a folder that is shared with that user
            self.directory.chmod(stat.S_IMODE(folder.stat().st_mode))
            call.settle(str(folder))
        except OSError as error:
            error.add_note(f"calls are kept below {folder}; LeptonExecutor(folder=...) names another place")
            raise

    def write(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> str:
        """The path of a new call; :func:`leptond.call.settle` makes its name durable. Raises OSError, and
        TypeError for what cannot be pickled."""
        if self._how == "pickle" and getattr(fn, "__module__", None) == "__main__":
            raise TypeError(
                f"{fn!r} is defined in this notebook or script, where a job cannot import it from."
                " Install cloudpickle (pip install cloudpickle), or put it into a module"
            )
        path = str(self.directory / f"{name[:60]}-{next(self._numbers)}{call.SUFFIX}")
        about = {
            "kind": "call",
            "by": self._how,
            "python": "{}.{}".format(*sys.version_info),
            "sys_path": [entry for entry in sys.path if entry],
            "what": getattr(fn, "__qualname__", repr(fn))[:200],
        }
        try:
            call.write(path, (fn, args, dict(kwargs)), about, dump=call.dump_of(self._how))
        except (pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
            raise TypeError(f"{about['what']} and its arguments cannot travel into a job: {error}") from error
        return path

    def sweep(self, keep_s: float) -> None:
        """Remove directories of other executors that have not changed for `keep_s` seconds and in which
        every call is known to have ended."""
        before = time.time() - keep_s
        for directory in self.folder.iterdir():
            try:
                files = {file.name: file.stat().st_mtime for file in directory.iterdir()}
            except OSError:
                continue
            calls = [name.removesuffix(call.SUFFIX) for name in files if name.endswith(call.SUFFIX)]
            if calls and all(f"{name}.end" in files for name in calls) and max(files.values()) < before:
                shutil.rmtree(directory, ignore_errors=True)


class LeptonExecutor(Executor):
    """An executor that runs functions as jobs of a leptond daemon, through its restarts.

    `spec`: the fields of a job, such as gpus=1, time_limit_s=3600, retries=2, env={...}, queue=, name=, cwd=
    (default: where this process is), for every call; :meth:`with_options` changes them for some. `nproc`:
    the function runs in so many ranks under torchrun (``"auto"``: one a GPU), and the value is rank 0's.
    `python`: another interpreter, which must have leptond, and be of the same version where functions travel
    by value. `host`: the daemon; without it, found as leptonctl does. `folder`: where calls and values are
    kept, by default below the user's state directory; jobs must be able to read and write it. `keep_s`: for
    how long at least, once they have ended. Raises OSError for the folder, TypeError for an unknown option,
    ClientError where there is no daemon.

    A function of an importable module travels by its name, so the job takes what the file then says; one of
    the notebook itself travels by value, with cloudpickle. It runs at least once: a job that the machine
    failed is tried again, and ``retries`` count for what the function raises too.
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        python: str | None = None,
        nproc: int | str | None = None,
        keep_s: float = KEEP_S,
        **spec: Any,
    ) -> None:
        self._options: dict[str, Any] = {}
        self._take({"python": python or sys.executable, "nproc": nproc, **spec})
        self._watch = Watch(host)
        self._calls = Calls(Path(folder).expanduser().absolute() if folder is not None else _folder())
        self._calls.sweep(keep_s)
        self._state = {"closed": False}

    def with_options(self, **options: Any) -> LeptonExecutor:
        """This executor with other options for the calls that are made through what it returns: fields of
        a job, ``python``, ``nproc``. It is the same executor in all else: what shuts one down shuts both
        down."""
        other = object.__new__(LeptonExecutor)
        other.__dict__ = {**self.__dict__, "_options": dict(self._options)}
        other._take(options)
        return other

    def _take(self, options: Mapping[str, Any]) -> None:
        unknown = sorted(set(options) - SPEC - {"python", "nproc"})
        if unknown:
            raise TypeError(
                f"{unknown[0]!r} is no option of a call; there are nproc, python, {', '.join(sorted(SPEC))}"
            )
        self._options.update(options)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> JobFuture[T]:
        """Queue ``fn(*args, **kwargs)``. Durable when it returns. Raises TypeError for what cannot travel,
        OSError for the folder, ClientError for the daemon, ValueError for an option."""
        self._must_be_ready()
        name = _name(fn)
        return self._queue([self._calls.write(name, fn, args, kwargs)], name)[0]

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """``map(fn, *iterables)``, a job for each `chunksize` calls, all queued at once; the values in order.
        Raises as :meth:`submit`; the iterator TimeoutError `timeout` seconds from now. `buffersize` changes
        nothing: what waits here waits in the queue."""
        if chunksize < 1:
            raise ValueError(f"chunksize is {chunksize}; a job does one call at least")
        self._must_be_ready()
        until = None if timeout is None else time.monotonic() + timeout
        name = _name(fn)
        items = list(zip(*iterables, strict=False))
        if chunksize == 1:
            paths = [self._calls.write(name, fn, item, {}) for item in items]
        else:
            chunks = [items[at : at + chunksize] for at in range(0, len(items), chunksize)]
            paths = [self._calls.write(name, call.each, (fn, chunk), {}) for chunk in chunks]
        futures = self._queue(paths, name)
        return _values(futures, until, flat=chunksize > 1)

    def attach(self, ref: int | str) -> JobFuture[Any]:
        """The future of a call that was queued before, by this process or another; `ref` is its job.
        Raises ValueError for another kind of job, ClientError."""
        with self._watch.lock:
            job = self._watch.ask(lambda lept: lept.job(ref))
            known = self._watch.find(job.id)
            if known is not None:
                return known
            argv = job.spec.argv
            at = argv.index(MODULE) + 1 if MODULE in argv else len(argv)
            if at >= len(argv) or not argv[at].endswith(call.SUFFIX):
                raise ValueError(f"job {job.ref} is not a call of an executor: it runs {argv[0]}")
            future: JobFuture[Any] = JobFuture(job.id, argv[at], self._watch)
            self._watch.add(future)
        if job.state in TERMINAL:
            self._watch.ended(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. `cancel_futures` cancels those that have not started; `wait` waits for all
        others. Without it they go on in the queue, and their futures complete while this process lives."""
        self._state["closed"] = True
        futures = self._watch.open()
        if cancel_futures:
            for future in futures:
                future.cancel()
        if wait:
            wait_for(futures)
        self._watch.close()

    def _must_be_ready(self) -> None:
        if self._state["closed"]:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._command("")

    def _command(self, path: str) -> list[str]:
        """The command of the job. Raises ValueError for an `nproc` that cannot be."""
        python, nproc = self._options["python"], self._options["nproc"]
        command = [python, "-m", MODULE, path]
        if nproc is None:
            return command
        if not torchrun.is_python(python):
            raise ValueError(
                f"nproc={nproc!r} starts ranks of a Python interpreter, and python={python!r} is not named as"
                " one is"
            )
        try:
            ranks = torchrun.count(str(nproc), self._options.get("gpus", 0))
        except UsageError as usage:
            raise ValueError(f"nproc={nproc!r}: {usage}") from None
        return torchrun.under_torchrun(command, ranks)

    def _queue(self, paths: list[str], name: str) -> list[JobFuture[Any]]:
        """Queue jobs for calls that have been written, in requests of BATCH. Raises ClientError; a call that
        was refused leaves no file."""
        call.settle(str(self._calls.directory))
        futures: list[JobFuture[Any]] = []
        try:
            for at in range(0, len(paths), BATCH):
                part = paths[at : at + BATCH]
                specs = [self._spec(path, name) for path in part]
                with self._watch.lock:
                    for path, job_id in zip(part, self._watch.ask(partial(_submit, specs)), strict=True):
                        future: JobFuture[Any] = JobFuture(job_id, path, self._watch)
                        futures.append(future)
                        self._watch.add(future)
        except ApiError as error:
            for future in futures:
                with contextlib.suppress(ClientError):
                    future.cancel()
            if error.status < 500:  # else an answer that was lost may have said that it is queued
                for path in paths[len(futures) :]:
                    Path(path).unlink(missing_ok=True)
            raise
        return futures

    def _spec(self, path: str, name: str) -> dict[str, Any]:
        spec = {key: value for key, value in self._options.items() if key in SPEC}
        return {"name": name, **spec, "argv": self._command(path)}


def _submit(specs: list[dict[str, Any]], lept: Client) -> list[int]:
    made = [lept.submit(**specs[0])] if len(specs) == 1 else lept.submit_many(specs)
    return [one.id for one in made]


def _values(futures: list[JobFuture[Any]], until: float | None, *, flat: bool) -> Iterator[Any]:
    """The values in order. A consumer that stops early cancels the calls that have not started."""
    futures = futures[::-1]
    try:
        while futures:
            left = None if until is None else until - time.monotonic()
            value = futures[-1].result(left)
            futures.pop()
            if flat:
                yield from value
            else:
                yield value
    finally:
        for future in futures:
            with contextlib.suppress(ClientError):
                future.cancel()


def _name(fn: Callable[..., Any]) -> str:
    """The function's name, as a job may be called."""
    while hasattr(fn, "func"):  # functools.partial
        fn = fn.func
    name = name_of(str(getattr(fn, "__name__", type(fn).__name__)))
    return (name or "").rstrip(".-") or "call"


def _has_cloudpickle() -> bool:
    try:
        import cloudpickle  # noqa: F401
    except ImportError:
        return False
    return True


def _folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else home() / ".local/state") / "leptond-calls"
