"""Slow and greedy clients against a real daemon, while jobs start.

    python -m tests.fuzz.slow --clients 5000

opens that many connections, over the Unix socket and over TCP, which send nothing, half a head, a head byte
by byte, or half a body. All of them have to be closed soon; a client of the daemon's own account has to be
answered meanwhile, and its jobs have to start."""

from __future__ import annotations

import argparse
import contextlib
import resource
import select
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.http import Target


class Kind(NamedTuple):
    """A kind of slow client: what it sends at once, and what it then sends byte by byte."""

    name: str
    first: bytes
    dribble: bytes = b""


ONE_IN = 20
"""One round of clients in so many comes over the Unix socket. They are of the daemon's own account, as the
one that has to be answered is: an account shuts out nobody but itself, and has 512 connections."""

HALF_BODY = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100000\r\n\r\n{"
)

KINDS = (
    Kind("silent", b""),
    Kind("half a line", b"GET /v1/st"),
    Kind("half a head", b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n"),
    Kind("byte by byte", b"G", b"ET /v1/status HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 4096),
    Kind("another header all the time", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n" * 1024),
    Kind("half a body", HALF_BODY, b"a" * 4096),
)


class Result(NamedTuple):
    """What came of a campaign. `slowest_s`: the longest that a client's connection stayed; `answers_s`: the
    times of the daemon's answers meanwhile, sorted; `starts`: jobs that ran meanwhile."""

    opened: int
    closed: int
    slowest_s: float
    answers_s: list[float]
    starts: int

    def p99_s(self) -> float:
        """Return the 99th percentile of the answers' times."""
        return self.answers_s[int(len(self.answers_s) * 0.99)] if self.answers_s else 0.0


class Watch(threading.Thread):
    """Asks for the status, and submits jobs, until it is stopped."""

    def __init__(self, target: Target) -> None:
        super().__init__(daemon=True)
        self._target = target
        self._stop_it = threading.Event()
        self.answers_s: list[float] = []
        self.jobs: list[int] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        daemon = self._target.daemon
        while not self._stop_it.is_set():
            begin = time.monotonic()
            try:
                answer = daemon.get("/v1/status")
            except OSError as error:
                self.wrong.append(repr(error))
                return
            self.answers_s.append(time.monotonic() - begin)
            if answer.status != 200:
                self.wrong.append(f"{answer.status} {answer.data[:200]!r}")
            if len(self.answers_s) % 20 == 1:
                self.jobs.append(daemon.submit("true"))
            self._stop_it.wait(0.02)

    def stop(self) -> None:
        self._stop_it.set()
        self.join(60)


def run(target: Target, *, clients: int, patience_s: float) -> Result:
    """Let that many slow clients come, and wait until they are gone. Raises AssertionError for one that
    stays, or an owner that is shut out."""
    watch = Watch(target)
    watch.start()
    open_ones: dict[socket.socket, tuple[Kind, float, int]] = {}
    opened = closed = 0
    slowest_s = 0.0
    try:
        for number in range(clients):
            kind = KINDS[number % len(KINDS)]
            with contextlib.suppress(OSError):
                one = target.unix() if number // len(KINDS) % ONE_IN == 0 else target.tcp()
                one.setblocking(False)
                if kind.first:
                    one.send(kind.first)
                open_ones[one] = (kind, time.monotonic(), 0)
            opened += 1
            if number % 50 == 0:
                for age_s in _closed(open_ones):
                    closed, slowest_s = closed + 1, max(slowest_s, age_s)
        until = time.monotonic() + patience_s
        while open_ones and time.monotonic() < until:
            for age_s in _closed(open_ones):
                closed, slowest_s = closed + 1, max(slowest_s, age_s)
            time.sleep(0.05)
        assert not open_ones, f"{len(open_ones)} of {opened} slow clients stay: {_kinds(open_ones)}"
    finally:
        watch.stop()
        for one in open_ones:
            one.close()
    assert not watch.wrong, watch.wrong[:3]
    for job in watch.jobs:
        target.daemon.finished(job)
    return Result(opened, closed, slowest_s, sorted(watch.answers_s), len(watch.jobs))


def _closed(open_ones: dict[socket.socket, tuple[Kind, float, int]]) -> Iterator[float]:
    """Dribble on, and yield the ages of those that the daemon has closed."""
    poll = select.poll()
    by_fd = {one.fileno(): one for one in open_ones}
    for fd in by_fd:
        poll.register(fd, select.POLLIN | select.POLLHUP)
    ended = set()
    for fd, _ in poll.poll(0):
        with contextlib.suppress(BlockingIOError):
            try:
                while by_fd[fd].recv(65536):
                    pass
                ended.add(by_fd[fd])
            except ConnectionError:
                ended.add(by_fd[fd])
    for one, (kind, since, at) in list(open_ones.items()):
        if one in ended:
            del open_ones[one]
            one.close()
            yield time.monotonic() - since
        elif at < len(kind.dribble):
            with contextlib.suppress(OSError):
                one.send(kind.dribble[at : at + 1])
                open_ones[one] = (kind, since, at + 1)


def _kinds(open_ones: dict[socket.socket, tuple[Kind, float, int]]) -> set[str]:
    return {kind.name for kind, _, _ in open_ones.values()}


def main() -> None:
    """The campaign."""
    options = argparse.ArgumentParser(description="Slow clients against a real daemon")
    options.add_argument("--clients", type=int, default=5000)
    asked = options.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, asked.clients * 2 + 1024), hard))
    with tempfile.TemporaryDirectory() as root:
        target = Target(Path(root))
        began = time.monotonic()
        try:
            found = run(target, clients=asked.clients, patience_s=60.0)
        finally:
            target.daemon.close()
        print(
            f"{found.opened} clients, {found.closed} closed, the last after {found.slowest_s:.1f} s;"
            f" {len(found.answers_s)} answers meanwhile, p99 {found.p99_s() * 1000:.0f} ms;"
            f" {found.starts} jobs ran; {time.monotonic() - began:.0f} s"
        )


if __name__ == "__main__":
    main()
