"""The futures of :class:`leptond.client.executor.LeptonExecutor`: :class:`JobFuture`, a future of the
standard library that is a job, and :class:`Watch`, the one thread that completes all futures of an
executor."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from time import sleep
from typing import Any, TypeVar

from leptond import schema
from leptond.client.call_result import JobFailed, RemoteError, outcome
from leptond.client.errors import ApiError, ClientError
from leptond.client.sdk import Client
from leptond.client.server_events import KEEPALIVE
from leptond.client.transport import Transport
from leptond.core.jobs.states import LIVE, TERMINAL

T = TypeVar("T")
A = TypeVar("A")

RETRY_S = 1.0
"""Seconds before the thread tries again to reach a daemon that was away for a while."""

PATIENCE_S = 60.0
"""Seconds for which a submit waits for a daemon that was there before."""

TAIL_LINES = 30
_FOREIGN = re.compile(r"No module named '?leptond")


class JobFuture(Future[T]):
    """The future of a call that is a job. All of :class:`concurrent.futures.Future`, and the job."""

    def __init__(self, job_id: int, path: str, watch: Watch) -> None:
        super().__init__()
        self.job_id = job_id
        """The job's number, for ``leptonctl`` and for :meth:`LeptonExecutor.attach`."""
        self.path = path
        self._watch = watch

    def __repr__(self) -> str:
        return super().__repr__().replace(" at ", f" of job {self.job_id} at ", 1)

    @property
    def job(self) -> schema.Job:
        """The job as it is now. Raises ClientError."""
        return self._watch.ask(lambda lept: lept.job(self.job_id))

    def logs(self, *, attempt: int | None = None) -> str:
        """The job's output so far, of its newest attempt unless another is named. Raises ClientError."""
        try:
            return self._watch.ask(lambda lept: "".join(lept.logs(self.job_id, attempt=attempt)))
        except ApiError as error:
            if error.status == 404 and attempt is None and not self.job.attempt:
                return ""  # it has not begun
            raise

    def follow(self) -> Iterator[str]:
        """The output in pieces of text as it comes, through retries, until the job ends. Raises
        ClientError."""
        with Client(self._watch.host) as lept:
            yield from lept.logs(self.job_id, follow=True)

    def cancel(self) -> bool:
        """Cancel a call whose job has not started. False for one that runs (:meth:`stop` ends it) or has
        ended. Raises ClientError."""
        if self.cancelled():
            return True
        if self.running() or self.done():
            return False
        try:
            # a job that is held cannot start any more: so what is cancelled is sure to wait
            self._watch.ask(lambda lept: lept.hold(self.job_id))
        except ApiError as error:
            if error.status != 409:
                raise
            return self.cancelled()
        return self._watch.cancel(self)

    def stop(self, grace_s: float | None = None) -> None:
        """Cancel the job also when it runs: it gets SIGTERM and its grace (`grace_s` instead, if given), and
        the future ends as cancelled. Nothing happens to a job that has ended. Raises ClientError."""
        try:
            self._watch.ask(lambda lept: lept.cancel(self.job_id, grace_s=grace_s))
        except ApiError as error:
            if error.status != 409:
                raise

    def cancelled(self) -> bool:
        """Return True if the job was cancelled, from here or elsewhere, before or while it ran."""
        if super().cancelled():
            return True
        return self.done() and isinstance(self._exception, CancelledError)

    def _started(self) -> None:
        with self._condition:
            if self._state == "PENDING":
                self.set_running_or_notify_cancel()

    def _end(self, value: T | None, failure: BaseException | None) -> None:
        """Complete the future; a failure of CancelledError is a cancel."""
        if isinstance(failure, CancelledError) and super().cancel():
            self.set_running_or_notify_cancel()
        elif failure is not None:
            self.set_exception(failure)
        else:
            self.set_result(value)  # type: ignore[arg-type]


class Watch:
    """Follows the daemon's events and completes futures. `ask` may be called from any thread. Raises
    ClientError when there is no daemon."""

    def __init__(self, host: str | None) -> None:
        self.host = host
        self.lock = threading.RLock()
        """Held from before a job is submitted until its future is in the watch, so that no end is missed."""
        with Client(host) as lept:
            lept.status()  # fails at once where there is no daemon; later it may be away for a while
        self._client = Client(host, patience_s=PATIENCE_S)
        self._talk = threading.Lock()
        self._open: dict[int, JobFuture[Any]] = {}
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def ask(self, question: Callable[[Client], A]) -> A:
        """Return `question(client)`. Raises what it raises."""
        with self._talk:
            try:
                return question(self._client)
            finally:
                if self._closing.is_set():
                    self._client.close()

    def add(self, future: JobFuture[Any]) -> None:
        """Complete `future` when its job ends. Call it with `lock` held since before the job's state was
        read."""
        with self.lock:
            self._open[future.job_id] = future
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="leptond-futures", daemon=True)
                self._thread.start()

    def open(self) -> list[JobFuture[Any]]:
        """The futures that are not complete."""
        with self.lock:
            return list(self._open.values())

    def find(self, job_id: int) -> JobFuture[Any] | None:
        """The incomplete future of a job."""
        with self.lock:
            return self._open.get(job_id)

    def close(self) -> None:
        """Let the thread end when the last future is complete."""
        self._closing.set()
        with self._talk:
            self._client.close()

    def ended(self, job: schema.Job) -> None:
        """Complete the future of a job that has ended, once."""
        if job.state in TERMINAL:
            self._finish(job.id, job)

    def cancel(self, future: JobFuture[Any]) -> bool:
        """Cancel the job of `future`, which waits and is held, and complete the future; True if it was
        cancelled. Raises ClientError."""
        with self.lock:
            found = self._open.pop(future.job_id, None)
        if found is None:
            wait([future])  # the thread completes it: another client cancelled the job
            return future.cancelled()
        try:
            job = self.ask(lambda lept: _cancelled(lept, future.job_id))
        except ClientError:
            self.add(future)
            raise
        self._complete(future, job)
        return future.cancelled()

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        with Client(self.host) as lept:
            while not self._over():
                try:
                    self._follow(lept)
                except (ClientError, OSError):
                    sleep(RETRY_S)  # the daemon may be away for as long as it likes: the jobs are safe

    def _over(self) -> bool:
        with self.lock:
            over = self._closing.is_set() and not self._open
            if over:
                self._thread = None
            return over

    def _follow(self, lept: Client) -> None:
        """Follow events until no future is open, or until events have gone missing. Raises ClientError."""
        stream = Transport.find(self.host).follow("/v1/events", {"type": "job.state"})
        with contextlib.closing(stream):
            for event in stream:
                if event.type == "hello":
                    self._look_at_all(lept)  # what happened before, or while the connection was gone
                elif event is KEEPALIVE:
                    if self._look_at_one(lept):
                        return  # its end had no event: an older copy of the database was put back, perhaps
                elif event.id is not None:
                    self._take(lept, event.json())
                if self._over():
                    return

    def _take(self, lept: Client, event: Any) -> None:
        job_id, to = event.get("job_id"), event.get("data", {}).get("to")
        future = self.find(job_id)
        if future is None:
            return
        if to in TERMINAL:
            self._look(lept, job_id)
        elif to in LIVE:
            future._started()

    def _look_at_all(self, lept: Client) -> None:
        for future in self.open():
            self._look(lept, future.job_id)

    def _look_at_one(self, lept: Client) -> bool:
        """Ask for the oldest future's job and put it last in the row; True if the job had ended."""
        with self.lock:
            job_id = next(iter(self._open), None)
            if job_id is None:
                return False
            self._open[job_id] = self._open.pop(job_id)
        return self._look(lept, job_id)

    def _look(self, lept: Client, job_id: int) -> bool:
        try:
            job = lept.job(job_id)
        except ApiError as error:
            if error.status != 404:
                raise
            self._finish(job_id, None)
            return True
        if job.state in TERMINAL:
            self._finish(job_id, job)
        elif job.state in LIVE or job.attempt:
            future = self.find(job_id)
            if future is not None:
                future._started()
        return job.state in TERMINAL

    def _finish(self, job_id: int, job: schema.Job | None) -> None:
        with self.lock:
            future = self._open.pop(job_id, None)
        if future is not None:
            self._complete(future, job)

    def _complete(self, future: JobFuture[Any], job: schema.Job | None) -> None:
        try:
            value, failure = outcome(future.path, future.job_id, job), None
        except BaseException as error:
            value, failure = None, error
        if isinstance(failure, JobFailed) and job is not None:
            failure = self._with_tail(failure, job)
        with contextlib.suppress(OSError):
            Path(future.path).with_suffix(".end").touch()
        future._end(value, failure)

    def _with_tail(self, failure: JobFailed, job: schema.Job) -> JobFailed:
        """The failure with the end of the job's output, where that can be had."""
        tail = ""
        with contextlib.suppress(ClientError), contextlib.closing(Transport.find(self.host)) as transport:
            reply = transport.request("GET", f"/v1/jobs/{job.id}/log", query={"tail": TAIL_LINES})
            tail = reply.body.decode("utf-8", "replace").rstrip()
        if not tail or isinstance(failure, RemoteError):
            return failure
        message = f"{failure}\nthe end of its output:\n{tail}"
        if _FOREIGN.search(tail):
            from leptond.base.origin import requirement

            python = job.spec.argv[0]
            message += (
                f"\n{python} cannot import leptond, which does the call in the job. Install it there"
                f" ({python} -m pip install {requirement()}), or give LeptonExecutor another python="
            )
        error = JobFailed(message, job, tail)
        error.__cause__ = failure.__cause__
        return error


def _cancelled(lept: Client, job_id: int) -> schema.Job:
    """Cancel a job that waits; it may have been cancelled elsewhere in the same moment. Raises
    ClientError."""
    try:
        return lept.cancel(job_id)
    except ApiError as error:
        if error.status != 409:
            raise
        return lept.job(job_id)
