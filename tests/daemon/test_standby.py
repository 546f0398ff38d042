"""Who stands on deck stays there for as long as a transaction may have told him to go."""

import asyncio
import contextlib
import os
import re
import secrets
import sqlite3
import time

from leptond.base.clock import SystemClock
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import Identity, JobSpec
from leptond.scheduling.standby import Deck
from leptond.store import open_store
from leptond.store.queue import jobs
from tests.support.daemon import Daemon, until


class Gates:
    """Prepares, and knows who stands; what was asked of it."""

    def __init__(self):
        self.standing, self.undone = set(), []

    async def prepare(self, job, attempt_id):
        self.standing.add(attempt_id)
        return Identity(boot_id="b", pid=1, start_ticks=1)

    def is_prepared(self, attempt_id):
        return attempt_id in self.standing

    async def discard(self, attempt_id):
        self.undone.append(attempt_id)


async def test_who_went_and_ended_before_his_claim_is_not_sent_away(tmp_path):
    """Found by simulation (seed 40064): the disk took no commit, the successor had run and ended meanwhile,
    was taken for lost on deck, and his end was never booked."""
    gates = Gates()
    async with open_store(tmp_path / "leptond.db") as store, asyncio.TaskGroup() as group:
        admitted = admit(JobSpec(argv=["true"]), gpus=0, home="/", defaults=Defaults())
        await store.write(jobs.submit, [admitted], user="ada", now=1.0, max_pending=10)
        job = await store.read(jobs.find, "1")
        deck = Deck(gates, SystemClock(), group, 2)
        here = asyncio.Event()
        deck.on_ready = here.set
        deck.arrange([job], [])
        await here.wait()
        (ready,) = deck.ready().values()
        deck.hold()
        gates.standing.clear()
        assert deck.ready() == {}, "nobody else may claim him"
        await asyncio.sleep(0)
        assert gates.undone == []
        deck.taken({ready.attempt_id})
        assert deck.ready() == {}
        assert deck.jobs() == []
        assert gates.undone == [], "he is the supervisor's now"

        deck.arrange([job], [])
        here.clear()
        await here.wait()
        deck.hold()
        gates.standing.clear()
        deck.ready()
        deck.taken({secrets.token_hex(16)})
        deck.ready()
    assert len(gates.undone) == 1, "he was lost, and nobody had claimed him"


def on_deck(daemon):
    """The attempts that stand at their gates."""
    deck = daemon.state_dir / "jobs" / ".deck"
    return {path.name for path in deck.iterdir() if (path / "identity.json").exists()}


def test_a_wrong_guess_leaves_no_trace(tmp_path):
    daemon = Daemon(tmp_path / "s", "--simulate-gpus", "1")
    daemon.start()
    try:
        os.mkfifo(tmp_path / "go")
        first = daemon.submit("sh", "-c", f"read x < {tmp_path}/go", gpus=1)
        daemon.reached(first, "running")
        wrong = daemon.submit("touch", str(tmp_path / "wrong"), gpus=1)
        right = daemon.submit("true", gpus=1)
        before = until(lambda: len(on_deck(daemon)) == 2 and on_deck(daemon))
        assert daemon.post(f"/v1/jobs/{wrong}/cancel").status == 202
        until(lambda: len(on_deck(daemon)) == 1)
        assert on_deck(daemon) < before
        assert not (daemon.state_dir / "jobs" / str(wrong)).exists()
        assert daemon.job(wrong)["attempts"] == []
        (tmp_path / "go").write_text("x\n")
        assert daemon.finished(right)["state"] == "succeeded"
        until(lambda: not on_deck(daemon))
        assert not (tmp_path / "wrong").exists()
    finally:
        daemon.close()


def test_a_job_that_is_changed_on_deck_starts_as_it_is_now(tmp_path):
    daemon = Daemon(tmp_path / "s", "--simulate-gpus", "1")
    daemon.start()
    try:
        os.mkfifo(tmp_path / "go")
        first = daemon.submit("sh", "-c", f"read x < {tmp_path}/go", gpus=1)
        daemon.reached(first, "running")
        job = daemon.submit("sh", "-c", "echo $LEPTOND_JOB_NAME $LEPTOND_DEADLINE", gpus=1)
        until(lambda: on_deck(daemon))
        assert daemon.request("PATCH", f"/v1/jobs/{job}", {"time_limit_s": 7000}).status == 200
        (tmp_path / "go").write_text("x\n")
        ended = daemon.finished(job)
        deadline = float(daemon.output(job).split()[1])
        assert 6000 < deadline - time.time() < 7100
        assert len(ended["attempts"]) == 1
    finally:
        daemon.close()


def looks(daemon):
    """How often the queue has been looked at."""
    text = daemon.get("/metrics").data.decode()
    return float(re.search(r"^leptond_scheduler_tick_seconds_count (\S+)$", text, re.MULTILINE)[1])


def test_a_hand_over_that_has_seen_to_everything_needs_no_look(tmp_path):
    daemon = Daemon(tmp_path / "s", "--simulate-gpus", "1")
    daemon.start()
    try:
        os.mkfifo(tmp_path / "go")
        first = daemon.submit("sh", "-c", f"read x < {tmp_path}/go", gpus=1)
        daemon.reached(first, "running")
        answer = daemon.post("/v1/jobs:batch", {"jobs": [{"argv": ["true"], "gpus": 1}] * 60})
        jobs = [job["id"] for job in answer.json["jobs"]]
        until(lambda: len(on_deck(daemon)) == 8, "all on deck")
        before = looks(daemon)
        (tmp_path / "go").write_text("x\n")
        assert daemon.finished(jobs[-1])["state"] == "succeeded"
        assert looks(daemon) - before < len(jobs), "less than one for each job"
    finally:
        daemon.close()


def test_what_a_hand_over_makes_runnable_starts_beside_it(tmp_path):
    daemon = Daemon(tmp_path / "s", "--simulate-gpus", "1")
    daemon.start()
    try:
        for name in ("go", "hold"):
            os.mkfifo(tmp_path / name)
        first = daemon.submit("sh", "-c", f"read x < {tmp_path}/go", gpus=1)
        daemon.reached(first, "running")
        following = [daemon.submit("sh", "-c", f"read x < {tmp_path}/hold", gpus=1) for _ in range(9)]
        dependent = daemon.submit("true", after=[str(first)])
        until(lambda: len(on_deck(daemon)) == 8, "all on deck")
        (tmp_path / "go").write_text("x\n")
        assert daemon.finished(dependent)["state"] == "succeeded"
        assert daemon.job(following[0])["state"] == "running", "its GPU was handed on"
    finally:
        daemon.post(f"/v1/jobs/{following[0]}/cancel")
        daemon.close()


def test_arrivals_on_deck_name_the_successor_without_another_look_at_the_queue(tmp_path):
    daemon = Daemon(tmp_path / "s", "--simulate-gpus", "1")
    daemon.start()

    def named():
        with contextlib.closing(sqlite3.connect(daemon.state_dir / "leptond.db")) as db:
            return db.execute("SELECT job_id FROM successors").fetchall()

    try:
        os.mkfifo(tmp_path / "go")
        first = daemon.submit("sh", "-c", f"read x < {tmp_path}/go", gpus=1)
        daemon.reached(first, "running")
        before = looks(daemon)
        answer = daemon.post("/v1/jobs:batch", {"jobs": [{"argv": ["true"], "gpus": 1}] * 8})
        jobs = [job["id"] for job in answer.json["jobs"]]
        until(lambda: len(on_deck(daemon)) == 8, "all on deck")
        until(lambda: named() == [(jobs[0],)], "who is next")
        assert looks(daemon) - before <= 3, "for the submit, and not for each of those who arrived"
        (tmp_path / "go").write_text("x\n")
        assert daemon.finished(jobs[-1])["state"] == "succeeded"
    finally:
        daemon.close()
