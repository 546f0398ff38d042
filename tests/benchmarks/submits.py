"""Rate of durable submits: by many clients at once, in batches, and as an array."""

from __future__ import annotations

import json
import selectors
import socket
import sqlite3
import time
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import ARRAY, BATCH, CLIENTS, row
from tests.benchmarks.jobs import daemon
from tests.benchmarks.rows import Row
from tests.support.daemon import Daemon

SINGLE = 4000
BATCHES = 32
ROW = "x" * 600
"""About as much as a job is in the database."""


def run(bench: Bench) -> list[Row]:
    """Jobs a second for 16 clients, each waiting for its answer before it asks again: one by one, and in
    batches of a thousand; and the time of an array. The floor is a bare database."""
    job = {"argv": ["true"], "hold": True}
    floor, bulk, single, batches, arrays = [], [], [], [], []
    refused = ""
    for _, here in bench.rounds():
        floor.append(_commits(here / "floor.db"))
        bulk.append(_commits(here / "bulk.db", BATCH, BATCHES))
        with daemon(here) as one:
            single.append(SINGLE / clients(one, "/v1/jobs", job, SINGLE))
            batches.append(BATCH * BATCHES / clients(one, "/v1/jobs:batch", {"jobs": [job] * BATCH}, BATCHES))
        with daemon(here / "array") as one:
            begin = time.perf_counter()
            answer = one.post("/v1/jobs", {**job, "array": f"0-{ARRAY - 1}"})
            if answer.status == 201:
                arrays.append((time.perf_counter() - begin) * 1000)
            else:
                refused = f"refused: {answer.json.get('detail')}"
    note = "floor: rows of the size of a job in a bare SQLite, as durable, one a commit"
    return [
        row("submits", bench.load, single, floor=floor, note=note),
        row("batches", bench.load, batches, floor=bulk),
        row(
            "array", bench.load, arrays, floor=[1000 / rate for rate in floor] if arrays else [], note=refused
        ),
    ]


def _commits(file: Path, rows: int = 1, commits: int = 500) -> float:
    """Rows a second that a bare SQLite with the same durability takes, so many a commit."""
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE t (x)")
    begin = time.perf_counter()
    for _ in range(commits):
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO t VALUES (?)", [(ROW,)] * rows)
        db.execute("COMMIT")
    seconds = time.perf_counter() - begin
    db.close()
    return rows * commits / seconds


def clients(one: Daemon, path: str, body: object, count: int) -> float:
    """Seconds until `count` submits by 16 clients on kept connections are answered with 201. They share one
    thread, and read no more of an answer than they must: on few cores they would slow the daemon."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    request = f"{head}\r\n\r\n".encode() + data
    with selectors.DefaultSelector() as ready:
        begin = time.perf_counter()
        asked = answered = 0
        for _ in range(min(CLIENTS, count)):
            client = _Client(one.socket)
            ready.register(client.socket, selectors.EVENT_READ, client)
            client.socket.sendall(request)
            asked += 1
        while answered < count:
            for key, _ in ready.select():
                client = key.data
                if not client.read():
                    continue
                answered += 1
                if asked < count:
                    client.socket.sendall(request)
                    asked += 1
        seconds = time.perf_counter() - begin
        for key in list(ready.get_map().values()):
            key.data.socket.close()
    return seconds


class _Client:
    """A kept connection. A blocking one: a request that does not fit in the socket waits for the daemon."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self._data = b""

    def read(self) -> bool:
        """Takes in what has come; whether the answer is there in full."""
        self._data += self.socket.recv(1 << 20)
        head, blank, body = self._data.partition(b"\r\n\r\n")
        if not blank:
            return False
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return False
        assert head.startswith(b"HTTP/1.1 201 "), self._data[:500]
        self._data = b""
        return True
