"""Malformed HTTP, drawn from a seed, against a real daemon's sockets.

    python -m tests.fuzz.http --cases 200000 [--seed N]

starts a daemon of its own, sends it that many odd requests over its Unix socket and over TCP, looks at its
health meanwhile, and says what it found. The daemon has to stay alive and to answer, to start jobs, to log no
traceback, and to have no more files open, and hardly more memory, at the end than before."""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.support.daemon import Daemon

METHODS = (
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PRI",
    "get",
    "\x00",
    "",
)
PATHS = (
    "/v1/jobs",
    "/v1/jobs/1",
    "/v1/jobs/1/log",
    "/v1/status",
    "/v1/events",
    "/v1/plan",
    "/v1/jobs:batch",
    "/v1/sweeps",
    "/v1/usage",
    "/metrics",
    "/",
    "/web/app.js",
    "/v1/gpus/0/drain",
    "/v1/me",
    "/v1/session",
    "/v1/tokens",
    "/v1/tokens/00000000",
    "/v1/jobs/1/log/stream",
    "*",
    "http://evil.example/v1/jobs",
    "http://localhost/v1/jobs",
    "//x",
    "/%00",
    "/%zz",
    "/v1/jobs/%2e%2e/%2e%2e/etc/passwd",
    "/v1/jobs?limit=1&limit=2",
    "/v1/jobs?cursor=%ff",
    "/v1/jobs?state=" + "pending," * 40,
    "/v1/jobs/" + "9" * 400,
    "/" + "a" * 9000,
)
VERSIONS = (
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/9.9",
    "HTTP/1.1 ",
    "http/1.1",
    "",
    "XTTP/1.1",
)
ENDS = (b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00")
HEADERS = (
    b"Host: localhost",
    b"Host: localhost:1@evil.example",
    b"Host: ",
    b"Host: a, b",
    b"host:x",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 5, 6",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 0x10",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Content-Type: application/json",
    b"Content-Type: text/plain; charset=\xff",
    b"Content-Encoding: gzip",
    b"Connection: close",
    b"Connection: upgrade\r\nUpgrade: websocket",
    b"Expect: 100-continue",
    b"Expect: nonsense",
    b"Accept: text/event-stream",
    b"Last-Event-ID: 99999999999999999999",
    b"Last-Event-ID: " + b"1" * 5000,
    b"Range: bytes=0-0,1-1",
    b'If-Match: "x"',
    b"Idempotency-Key: \xff",
    b"Authorization: Bearer " + b"x" * 100,
    b"Authorization: Bearer \xff\xfe",
    b"Authorization: Bearer lept_" + b"x" * 43,
    b"X-Leptond-Session: " + b"x" * 21,
    b"Cookie: leptond_0=" + b"x" * 27,
    b"X-Leptond-For: root",
    b"Origin: null",
    b"Origin: http://127.0.0.1:1",
    b"Sec-Fetch-Site: cross-site",
    b"X: " + b"y" * 9000,
    b"X Y: z",
    b": empty",
    b"X:\x00",
    b" folded",
    b"Cookie: " + b"a=b;" * 500,
)
BODIES = (
    b"",
    b"{}",
    b'{"argv": ["true"], "hold": true, "gpus": 99}',
    b'{"argv":',
    b"\xff\xfe",
    b"[" * 2000,
    b'{"a":1,"a":2}',
    b'{"code": "x"}',
    b'{"name": "x", "role": "admin", "lifetime_s": 1}',
    b"5\r\nhello\r\n0\r\n\r\n",
    b"zz\r\n",
    b"ffffffffffffffff\r\n",
    b"-1\r\n",
    b"3\r\nabcX",
    b"0\r\nTrailer: x\r\n\r\n",
    b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3,
)


MAX_GROWTH = 50 << 20
"""Most bytes of memory that the daemon may gain."""


def request(dice: random.Random) -> bytes:
    """One request, more or less."""
    if dice.random() < 0.1:
        return dice.randbytes(dice.randrange(1, 400))
    end = b"\r\n" if dice.random() < 0.8 else dice.choice(ENDS)
    method = dice.choice(METHODS) if dice.random() < 0.4 else dice.choice(METHODS[:3])
    version = dice.choice(VERSIONS) if dice.random() < 0.3 else "HTTP/1.1"
    line = f"{method} {dice.choice(PATHS)} {version}".encode("latin-1")
    many = 150 if dice.random() < 0.02 else dice.choice((0, 0, 0, 1, 1, 2, 3))
    headers = [dice.choice(HEADERS) for _ in range(many)]
    if dice.random() < 0.7:
        headers.insert(0, b"Host: localhost")
    body = dice.choice(BODIES)
    if body and dice.random() < 0.5:
        headers.append(b"Content-Length: %d" % len(body))
    data = line + end + b"".join(one + end for one in headers) + end + body
    match dice.randrange(6):
        case 0:  # broken off
            return data[: dice.randrange(len(data) + 1)]
        case 1:  # a byte is another one
            at = dice.randrange(len(data))
            return data[:at] + dice.randbytes(1) + data[at + 1 :]
        case 2:  # two at once
            return data + request(dice) if dice.random() < 0.5 else data * 2
        case _:
            return data


def send(connect: Callable[[], socket.socket], dice: random.Random) -> str:
    """Send one, in pieces or not, wait for the answer or not. Returns the status, or what happened
    instead."""
    data = request(dice)
    with contextlib.closing(connect()) as raw:
        try:
            if dice.random() < 0.2 and len(data) > 2:
                cut = dice.randrange(1, len(data))
                raw.sendall(data[:cut])
                raw.sendall(data[cut:])
            else:
                raw.sendall(data)
            if dice.random() < 0.3:
                return "left"
            raw.settimeout(0.02 if dice.random() < 0.9 else 0.3)
            if dice.random() < 0.2:
                raw.shutdown(socket.SHUT_WR)
            answer = raw.recv(4096)
        except TimeoutError:
            return "silent"
        except OSError:
            return "reset"
    assert not answer.startswith((b"HTTP/1.1 500", b"HTTP/1.0 500")), (data, answer)
    return (
        answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/") else ("closed" if not answer else "odd")
    )


class Target:
    """A daemon on a Unix socket and on TCP."""

    def __init__(self, root: Path, kind: type[Daemon] = Daemon) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.daemon = kind(root / "state", "--simulate-gpus", "1", "--listen", f"127.0.0.1:{self.port}")
        self.daemon.start()

    def unix(self) -> socket.socket:
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(str(self.daemon.socket))  # without a deadline it waits for its turn
        raw.settimeout(10)
        return raw

    def tcp(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def files(self) -> int:
        """How many files the daemon has open."""
        assert self.daemon.process is not None
        return len(list(Path(f"/proc/{self.daemon.process.pid}/fd").iterdir()))

    def memory(self) -> int:
        """Return the bytes of memory that the daemon has."""
        assert self.daemon.process is not None
        text = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("VmRSS"))

    def settled_files(self, most: int, patience_s: float = 60.0) -> int:
        """The same, once it is no more than `most`."""
        until = time.monotonic() + patience_s
        while (found := self.files()) > most and time.monotonic() < until:
            time.sleep(0.1)
        return found


def run(target: Target, *, cases: int, seed: int, health_every: int = 500) -> Counter[str]:
    """Send that many. Returns how often each status came. Raises AssertionError when the daemon has
    suffered."""
    dice = random.Random(seed)
    daemon = target.daemon
    assert daemon.get("/healthz").status == 200
    before = target.settled_files(0, 1.0)
    found: Counter[str] = Counter()
    memory = 0
    for number in range(cases):
        found[send(target.unix if dice.random() < 0.7 else target.tcp, dice)] += 1
        if number % health_every == 0:
            healthy(daemon)
            # what is loaded at the first use of a route is no leak
            memory = memory or (target.memory() if number >= 20 * health_every else 0)
    healthy(daemon)
    daemon.finished(daemon.submit("true"))
    grown = target.memory() - memory if memory else 0
    assert grown < MAX_GROWTH, f"{grown >> 20} MiB more memory than after {20 * health_every} cases"
    after = target.settled_files(before + 2)
    assert after <= before + 2, f"{after} files are open, {before} were before"
    log = daemon.log.read_text()
    for mark in ("Traceback", '"exception"', "traceback"):
        assert mark not in log, log[-4000:]
    return found


def healthy(daemon: Daemon) -> None:
    """Raises AssertionError unless the daemon lives and answers."""
    assert daemon.process is not None
    assert daemon.process.poll() is None, daemon.tail()
    assert daemon.get("/healthz").status == 200
    assert daemon.get("/v1/status").status == 200


def main() -> None:
    """The campaign."""
    options = argparse.ArgumentParser(description="Malformed HTTP against a real daemon")
    options.add_argument("--cases", type=int, default=200_000)
    options.add_argument("--seed", type=int, default=random.randrange(2**32))
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as root:
        target = Target(Path(root))
        began = time.monotonic()
        try:
            found = run(target, cases=asked.cases, seed=asked.seed)
        except AssertionError:
            print(f"seed {asked.seed}\n{target.daemon.tail()}")
            raise
        finally:
            target.daemon.close()
        took_s = time.monotonic() - began
        print(f"seed {asked.seed}: {asked.cases} cases in {took_s:.0f} s, {dict(found.most_common())}")


if __name__ == "__main__":
    main()
