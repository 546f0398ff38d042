"""A helper process that answers questions, each with a deadline.

A driver call that blocks cannot be interrupted, and its process may not even be killable. So a helper that
does not answer in time is killed, left to its fate where that fails, and replaced after a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec

from leptond.gpus.base import Device, Sample

MAX_STUCK = 3
"""The number of helpers that cannot be killed at which no further one is started."""
LINE_LIMIT = 4 * 1024 * 1024

Process = asyncio.subprocess.Process


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. `answer_s`: for an answer. `start_s`: for the first answer of a new helper. `restart_s` to
    `restart_max_s`: before a helper is replaced, doubled each time. `kill_s`: for it to die."""

    answer_s: float = 10.0
    start_s: float = 30.0
    restart_s: float = 2.0
    restart_max_s: float = 60.0
    kill_s: float = 1.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A line from the helper. `missing`: there is no driver to ask."""

    id: int
    devices: list[Device] = []
    samples: list[Sample] = []
    problems: list[str] = []
    error: str | None = None
    missing: bool = False


class NoAnswer(Exception):
    """The helper did not answer, or there is none now; `since` (CLOCK_MONOTONIC seconds) is when the first
    of the questions without an answer was asked."""

    def __init__(self, why: str, since: float) -> None:
        super().__init__(why)
        self.since = since


class Helper:
    """One helper at a time, running `command`. `kill` ends a process."""

    def __init__(
        self,
        command: Sequence[str],
        times: Times,
        on_note: Callable[[str], None],
        kill: Callable[[Process], None] = Process.kill,
    ) -> None:
        self._command = command
        self._times = times
        self._on_note = on_note
        self._kill = kill
        self._lock = asyncio.Lock()
        self._decoder = msgspec.json.Decoder(Answer)
        self._process: Process | None = None
        self._stuck: list[Process] = []
        self._number = 0
        self._restart_s = times.restart_s
        self._restart_at = 0.0
        self._silent_since: float | None = None
        self._why = ""
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The pid of the helper, while there is one."""
        return self._process.pid if self._process is not None else None

    async def ask(self, call: str) -> Answer:
        """Return the answer to a question. Raises NoAnswer: at once when no helper may be started now, else
        when the deadline has passed."""
        async with self._lock:
            asked_at = time.monotonic()
            new = self._process is None
            if new:
                self._check_may_start(asked_at)
            try:
                async with asyncio.timeout(self._times.start_s if new else self._times.answer_s):
                    process = self._process = self._process or await self._start()
                    answer = await self._exchange(process, call)
            except TimeoutError:
                limit_s = self._times.start_s if new else self._times.answer_s
                await self._give_up(asked_at, f"the helper did not answer within {limit_s:g} s")
            except EOFError:
                await self._give_up(asked_at, f"the helper ended {await self._end_of(self._process)}")
            except (OSError, ValueError, msgspec.DecodeError) as error:
                await self._give_up(asked_at, f"the helper cannot be asked: {error}")
            if self._silent_since is not None:
                self._on_note(
                    f"the driver answers again, after {time.monotonic() - self._silent_since:.0f} s"
                )
            self._silent_since = None
            self._restart_s = self._times.restart_s
            return answer

    async def stop(self) -> None:
        """End the helper; the next question starts another."""
        if self._process is not None and self._lock.locked():
            self._signal(self._process)  # the question under way now comes to its end
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._times.kill_s), self._lock:
                process, self._process = self._process, None
                if process is not None:
                    await self._end(process)

    async def close(self) -> None:
        """End the helper and start no other. One that cannot be killed is left."""
        self._closed = True
        await self.stop()

    def _check_may_start(self, now: float) -> None:
        since = self._silent_since if self._silent_since is not None else now
        if self._closed:
            raise NoAnswer("the helper was closed", since)
        self._stuck = [process for process in self._stuck if process.returncode is None]
        if len(self._stuck) >= MAX_STUCK:
            raise NoAnswer(f"{MAX_STUCK} helpers hang in the driver and cannot be killed", since)
        if now < self._restart_at:
            raise NoAnswer(self._why, since)

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=LINE_LIMIT,
            start_new_session=True,
        )

    async def _exchange(self, process: Process, call: str) -> Answer:
        assert process.stdin is not None
        assert process.stdout is not None
        if self._closed:  # while it was started
            raise OSError("it was closed")
        self._number += 1
        process.stdin.write(json.dumps({"id": self._number, "call": call}).encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # it has ended: its output ends as well
            await process.stdin.drain()
        while line := await process.stdout.readline():
            answer = self._decoder.decode(line)
            if answer.id == self._number:
                return answer  # others belong to questions that were cancelled
        raise EOFError

    async def _give_up(self, asked_at: float, why: str) -> NoReturn:
        if self._silent_since is None:
            self._silent_since = asked_at
        since = self._silent_since
        process, self._process = self._process, None
        if self._closed:
            if process is not None:
                await self._end(process)
            raise NoAnswer("the helper was closed", since)
        self._why = why
        self._restart_at = time.monotonic() + self._restart_s
        self._on_note(f"the NVIDIA driver gave no answer: {why}; next try in {self._restart_s:g} s")
        self._restart_s = min(self._times.restart_max_s, self._restart_s * 2)
        if process is not None and not await self._end(process):
            self._stuck.append(process)
            self._on_note(
                f"the helper {process.pid} hangs in the driver, cannot be killed and is left behind"
            )
        raise NoAnswer(why, since)

    async def _end_of(self, process: Process | None) -> str:
        """Return in words how a helper ended that closed its output."""
        if process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._times.kill_s):
                    code = await process.wait()
                    return f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        return "its output"

    async def _end(self, process: Process) -> bool:
        """Kill a helper; return True if it ended in time."""
        assert process.stdin is not None
        assert process.stdout is not None
        self._signal(process)
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._times.kill_s):
                await process.wait()
                while await process.stdout.read(LINE_LIMIT):  # until its end: then the pipe is closed
                    pass
        return process.returncode is not None

    def _signal(self, process: Process) -> None:
        # Before its input is closed, and not once it has ended: the Popen under asyncio collects the exit
        # status of a process that is just ending when it is asked to kill it, and asyncio then misses it.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._kill(process)
