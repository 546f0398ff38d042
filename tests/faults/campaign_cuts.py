"""Promise 23: a submit that is sent twice with one Idempotency-Key makes one job, wherever the connection
was cut and whenever the daemon died."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import select
import socket
import threading
from pathlib import Path
from typing import Any

from tests.faults.campaign import Found, Outcome, campaign, run_trials
from tests.support.daemon import Daemon, UnixConnection


class Cutter:
    """A proxy in front of the daemon's socket that breaks one connection after `request` bytes of what is
    sent, or after `response` bytes of the answer."""

    def __init__(self, path: Path, behind: Path) -> None:
        self.path = path
        self._behind = behind
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.request: int | None = None
        self.response: int | None = None
        self.passed = (0, 0)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            with ours, socket.socket(socket.AF_UNIX) as theirs:
                theirs.connect(str(self._behind))
                with contextlib.suppress(OSError):
                    self._carry(ours, theirs)

    def _carry(self, ours: socket.socket, theirs: socket.socket) -> None:
        sent = back = 0
        while True:
            for one in select.select([ours, theirs], [], [])[0]:
                data = one.recv(65536)
                if not data:
                    return
                if one is ours:
                    room = len(data) if self.request is None else max(0, self.request - sent)
                    theirs.sendall(data[:room])
                    sent += len(data[:room])
                else:
                    room = len(data) if self.response is None else max(0, self.response - back)
                    back += len(data[:room])
                    self.passed = (sent, back)  # before whoever reads it has the answer
                    ours.sendall(data[:room])
                if room < len(data):
                    return  # both ends are closed

    def close(self) -> None:
        """Stops accepting."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


def send(path: Path, body: bytes, key: str) -> tuple[int, Any] | None:
    """Status and answer of a submit; None when the connection broke."""
    connection = UnixConnection(path)
    try:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        connection.request("POST", "/v1/jobs", body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


@campaign("P23", title="Submits whose connection is cut at every byte", short=1, full=1)
def cut_submits(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial cuts at each byte of the request and of the answer; the figures count the cuts."""
    return run_trials(lambda dice, place: cut_everywhere(dice, place, step=1), trials, seed, workdir)


def cut_everywhere(dice: random.Random, place: Path, *, step: int) -> Found:
    """Each submit is cut once, then sent again."""
    daemon = Daemon(place / "s", "--simulate-gpus", "1", env={"LEPTOND_HTTP__SUBMITS_PER_S": "100000"})
    daemon.start()
    cutter = Cutter(place / "p", daemon.socket)
    try:
        body = json.dumps({"argv": ["true"], "hold": True}).encode()
        assert send(cutter.path, body, "measure") is not None
        request, response = cutter.passed
        cuts = [("request", k) for k in range(dice.randrange(step), request, step)]
        cuts += [("response", k) for k in range(dice.randrange(step), response, step)]
        broken = heard = 0
        for side, k in cuts:
            key = f"{side}-{k:05}"
            spec = {"argv": ["true"], "hold": True, "name": key}
            body = json.dumps(spec).encode()
            cutter.request, cutter.response = (k, None) if side == "request" else (None, k)
            first = send(cutter.path, body, key)
            broken += first is None
            again = send(daemon.socket, body, key)
            assert again is not None
            assert again[0] in (200, 201), again
            heard += again[0] == 200
            if first is not None:
                assert first[1]["id"] == again[1]["id"]
            other = send(daemon.socket, json.dumps({**spec, "argv": ["false"]}).encode(), key)
            assert other is not None
            assert other[0] == 409, other
            found = daemon.get(f"/v1/jobs?name={key}").json["items"]
            assert [one["id"] for one in found] == [again[1]["id"]], (key, found)
            assert daemon.request("DELETE", f"/v1/jobs/{again[1]['id']}").status == 409
        assert broken > len(cuts) // 2
        assert heard > 0, "no cut fell between the commit and the end of the answer"
    finally:
        cutter.close()
        for one in daemon.get("/v1/jobs?state=pending&limit=1000").json["items"]:
            daemon.post(f"/v1/jobs/{one['id']}/cancel")
        daemon.close()
    return Found(count=len(cuts), figures={"broken": broken, "had_been_stored": heard})


@campaign("P23", title="One key from several clients at once", short=1, full=50)
def key_races(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is two hundred races; the figures count races."""
    return run_trials(races, trials, seed, workdir)


def races(dice: random.Random, place: Path, *, count: int = 200, clients: int = 4) -> Found:
    """The same submit from `clients` clients that start together: one of them makes the job."""
    daemon = Daemon(place / "s", "--simulate-gpus", "1", env={"LEPTOND_HTTP__SUBMITS_PER_S": "100000"})
    daemon.start()
    try:
        barrier = threading.Barrier(clients)
        answers: list[list[tuple[int, Any] | None]] = [[] for _ in range(clients)]

        def race(mine: list[tuple[int, Any] | None]) -> None:
            for number in range(count):
                body = json.dumps({"argv": ["true"], "hold": True, "name": f"r{number}"}).encode()
                barrier.wait()
                mine.append(send(daemon.socket, body, f"r{number}"))

        threads = [threading.Thread(target=race, args=(mine,)) for mine in answers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(count):
            got = [mine[number] for mine in answers]
            assert sorted(status for status, _ in filter(None, got)) == [200] * (clients - 1) + [201], got
            assert len({answer["id"] for _, answer in filter(None, got)}) == 1
        assert daemon.get("/v1/status").json["counts"]["pending"] == count
    finally:
        daemon.close()
    return Found(count=count)


@campaign("P23", title="Crashes between commit and answer", short=3, full=200)
def crashed_submits(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is one crash."""
    return run_trials(one_crash, trials, seed, workdir)


def one_crash(dice: random.Random, place: Path) -> Found:
    """The daemon dies right before or right after a commit, while several clients submit."""
    where = dice.choice(["before_commit", "after_commit"])
    daemon = Daemon(place / "s", "--simulate-gpus", "1", "--unsafe-failpoints")
    daemon.env["LEPTOND_FAILPOINTS"] = f"{where}={dice.randrange(3, 12)}*off->1*kill"
    answers: dict[str, Any] = {}
    try:
        daemon.launch()
        with contextlib.suppress(AssertionError):
            daemon.ready()
        bodies = {
            f"k{n}": json.dumps({"argv": ["true"], "hold": True, "name": f"k{n}"}).encode() for n in range(24)
        }
        threads = [
            threading.Thread(target=_send_some, args=(daemon, dict(list(bodies.items())[n::4]), answers))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert daemon.process is not None
        assert daemon.process.wait(60) == -9, "the failpoint was reached"
        daemon.process = None
        del daemon.env["LEPTOND_FAILPOINTS"]
        daemon.start()
        ids = {}
        stored = 0
        for key, body in bodies.items():
            again = send(daemon.socket, body, key)
            assert again is not None
            stored += again[0] == 200
            ids[key] = again[1]["id"]
            if key in answers:
                assert (again[0], again[1]["id"]) == (200, answers[key]), (
                    "an answered submit is gone or doubled"
                )
        found = daemon.get("/v1/jobs?limit=1000").json["items"]
        assert sorted(one["id"] for one in found) == sorted(ids.values())
        assert len(set(ids.values())) == len(bodies)
        for job in ids.values():
            daemon.post(f"/v1/jobs/{job}/cancel")
    finally:
        daemon.close()
    return Found(figures={"answered": len(answers), "stored": stored}, notes={"where": where})


def _send_some(daemon: Daemon, bodies: dict[str, bytes], answers: dict[str, Any]) -> None:
    for key, body in bodies.items():
        answer = send(daemon.socket, body, key)
        if answer is not None and answer[0] in (200, 201):
            answers[key] = answer[1]["id"]
