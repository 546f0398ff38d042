"""Promise 3: power loss. The scenario is run, killed and run to its end while everything that it writes is
recorded; images of the disk at random moments are opened, and must hold every job that was answered, every
end that was seen, and each exit record whole or not at all.

Images are opened in this process, as the daemon opens its database (recovery of the log, pragmas,
migrations); a sample of them is given to a real daemon, which must bring its queue to rest.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from leptond.base.paths import data_dir
from leptond.core.jobs.model import TERMINAL
from leptond.store.database.connection import prepare_writer
from leptond.store.database.migrate import migrate
from tests.faults import invariants
from tests.faults.campaign import Found, Outcome, campaign, run_trials
from tests.faults.campaign_io_errors import Fault, suffer
from tests.faults.images import Disk, Record, mark, records
from tests.faults.invariants import Evidence
from tests.faults.rig import Rig, Templates, in_shims
from tests.faults.scenario import drained
from tests.faults.template import why_not

BATCH = 250
"""Images of one recording."""
SAMPLE = 100
"""One image in so many is given to a daemon."""


def record(rig: Rig, *, plant: str = "") -> Path:
    """Runs the scenario through a crash to its end; the record of it."""
    file = rig.place / "record"
    daemon, scenario = rig.daemon, rig.scenario
    scenario.on_accepted = lambda ids: mark(file, "accepted", ids)
    for half in (12, None):
        rig.arm("daemon", 0, RECORD=str(file), COUNTER="", TRACE="", DIR=str(rig.place))
        daemon.faults |= in_shims()
        daemon.plant = plant
        daemon.start()
        if half is not None:
            steps = scenario.steps()
            while scenario.done < half:
                steps[scenario.done](daemon)
                scenario.done += 1
            seen_ends(rig, file)
            daemon.kill()
        else:
            scenario.drive(daemon)
            drained(daemon)
            seen_ends(rig, file)
            daemon.terminate()
    return file


def record_with_failing_syncs(rig: Rig, dice: random.Random) -> Path:
    """Runs the scenario while a sync of the daemon fails, or all of them for half a second; the record."""
    file = rig.place / "record"
    daemon, scenario = rig.daemon, rig.scenario
    scenario.on_accepted = lambda ids: mark(file, "accepted", ids)
    fault = Fault(error="EIO", calls="sync", who="daemon", sticky=dice.random() < 0.5)
    suffer(rig, fault, dice.randint(2, 140), RECORD=str(file), DIR=str(rig.place))
    if scenario.done == len(scenario.steps()):
        return file
    rig.arm("daemon", 0, RECORD=str(file), COUNTER="", TRACE="", DIR=str(rig.place))
    daemon.start()
    scenario.drive(daemon)
    drained(daemon)
    seen_ends(rig, file)
    daemon.terminate()
    return file


def seen_ends(rig: Rig, file: Path) -> None:
    """Marks the jobs that the daemon shows as ended."""
    jobs = rig.daemon.get("/v1/jobs?limit=1000").json["items"]
    mark(file, "ended", {str(job["id"]): job["state"] for job in jobs if job["state"] in TERMINAL})


class Known:
    """What was told to somebody by a moment of the record."""

    def __init__(self) -> None:
        self.accepted: set[int] = set()
        self.ended: dict[int, str] = {}
        self.exits: set[str] = set()

    def play(self, record: Record, disk: Disk) -> None:
        """Takes one more record into account."""
        if record.kind == "M" and record.path == "accepted":
            self.accepted |= set(json.loads(record.data))
        elif record.kind == "M":
            self.ended |= {int(job): state for job, state in json.loads(record.data).items()}
        elif "/.deck/" in record.path:
            return  # the record of a shim that was sent away goes with it
        elif record.kind == "S" and (exit_file := f"{record.path}/exit.json") in disk.names:
            self.exits.add(exit_file)


def look(image: Path, known: Known, top: str) -> str:
    """What is wrong with an image; empty when nothing is."""
    try:
        for exit_file in known.exits:
            assert (image / exit_file.removeprefix(top).lstrip("/")).exists(), f"{exit_file} is lost"
        for file in image.glob("jobs/*/*/*.json"):
            if file.name == "identity.json":
                continue  # it tells the living apart, and after this nobody lives
            assert isinstance(json.loads(file.read_bytes()), dict), f"{file.name} is torn"
        if not (image / "leptond.db").exists():
            assert not known.accepted, "the database is lost"
            return ""
        with contextlib.closing(sqlite3.connect(image / "leptond.db", isolation_level=None)) as db:
            prepare_writer(db)
            migrate(db, data_dir("migrations"))
        seen = Evidence(image, image / "none")
        invariants.sound(seen, known.accepted)
        for job, state in known.ended.items():
            assert seen.jobs[job]["state"] == state, (
                f"job {job} had ended as {state}, now it is {seen.jobs[job]['state']}"
            )
        live = {one["job_id"]: one["state"] for one in seen.attempts if one["state"] != "ended"}
        for job in seen.jobs.values():
            lives = job["state"] in ("starting", "running", "stopping")
            assert lives == (job["id"] in live), f"job {job['id']} is {job['state']} with {live}"
        held = {lease["attempt_id"] for lease in seen.leases}
        assert held <= {one["id"] for one in seen.attempts if one["state"] != "ended"}
    except (AssertionError, sqlite3.Error, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def recovers(rig: Rig, image: Path, known: Known, *, rebooted: bool) -> str:
    """What a real daemon makes of an image."""
    if not (image / "leptond.db").exists():
        return ""
    if rebooted:
        with contextlib.closing(sqlite3.connect(image / "leptond.db", isolation_level=None)) as db:
            if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'attempts'").fetchone():
                db.execute("UPDATE meta SET value = 'before' WHERE key = 'boot_id'")
                db.execute("UPDATE attempts SET boot_id = 'before'")
    shutil.rmtree(rig.state, ignore_errors=True)
    shutil.copytree(image, rig.state)
    rig.state.chmod(0o700)
    try:
        rig.daemon.start()
        while left := rig.daemon.get("/v1/jobs?order=queue&limit=1000").json["items"]:
            for job in left:  # what it would run is not the question
                rig.daemon.post(f"/v1/jobs/{job['id']}/cancel", {"grace_s": 0})
        drained(rig.daemon)
        assert rig.daemon.terminate() == 0
        seen = Evidence(rig.state, rig.place / "no-witness")
        invariants.check(seen, known.accepted)
        for job, state in known.ended.items():
            assert seen.jobs[job]["state"] == state, f"job {job} had ended as {state}"
    except (AssertionError, OSError) as error:
        return f"{'rebooted' if rebooted else 'same boot'}: {error}"
    return ""


def batch(rig: Rig, file: Path, dice: random.Random, images: int, *, sample: int = SAMPLE) -> Found:
    """Images of one recording."""
    entries = list(records(file))
    moments = sorted(dice.randrange(1, len(entries) + 1) for _ in range(images))
    disk, known = Disk(str(rig.place)), Known()
    failures, first, sampled, at = 0, "", 0, 0
    for number, moment in enumerate(moments):
        while at < moment:
            disk.play(entries[at])
            known.play(entries[at], disk)
            at += 1
        with tempfile.TemporaryDirectory(prefix="lept-image-", dir=shared_memory()) as place:
            disk.image(dice, Path(place))
            image = Path(place) / "s"
            wrong = look(image, known, str(rig.state))
            if not wrong and sample and number % sample == sample - 1:
                sampled += 1
                wrong = recovers(rig, image, known, rebooted=dice.random() < 0.5)
            if wrong:
                failures += 1
                if not first:
                    first = f"image {number} at record {moment} of {len(entries)}: {wrong}"
                    with contextlib.suppress(OSError, shutil.Error):
                        shutil.copytree(image, rig.place / f"image-{number}")
    figures: dict[str, Any] = {"recordings": 1, "records": len(entries), "daemon_starts": sampled}
    return Found(count=images, failures=failures, figures=figures, why=first)


def shared_memory() -> str | None:
    """A place in memory, where there is one: images live for milliseconds."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@campaign("P3", title="Images of a disk that lost its power", short=100, full=10_000)
def crash_images(trials: int, seed: int, workdir: Path) -> Outcome:
    if why_not():
        return Outcome(trials=0, failures=0, skipped=why_not())
    templates = Templates()
    size = min(BATCH, trials)

    def one(dice: random.Random, place: Path) -> Found:
        with templates.rig(place) as rig:
            return batch(rig, record(rig), dice, size)

    try:
        return run_trials(one, -(-trials // size), seed, workdir)
    finally:
        templates.close()


@campaign(
    "P8", title="Images of a disk whose syncs fail: no answer rests on a failed commit", short=40, full=5_000
)
def sync_gate(trials: int, seed: int, workdir: Path) -> Outcome:
    if why_not():
        return Outcome(trials=0, failures=0, skipped=why_not())
    templates = Templates()
    size = min(100, trials)

    def one(dice: random.Random, place: Path) -> Found:
        with templates.rig(place) as rig:
            return batch(rig, record_with_failing_syncs(rig, dice), dice, size, sample=0)

    try:
        return run_trials(one, -(-trials // size), seed, workdir)
    finally:
        templates.close()


def self_test(place: Path, seed: int, images: int = 60) -> Found:
    """With commits that are not synced the images must show jobs that were answered and lost."""
    templates = Templates()
    try:
        with templates.rig(place) as rig:
            file = record(rig, plant="tests.faults.plants:lazy_sync")
            return batch(rig, file, random.Random(seed), images, sample=0)
    finally:
        templates.close()


@campaign("P3", title="Self-test: images find the loss with synchronous=NORMAL", short=1, full=5)
def crash_images_self_test(trials: int, seed: int, workdir: Path) -> Outcome:
    if why_not():
        return Outcome(trials=0, failures=0, skipped=why_not())

    def one(dice: random.Random, place: Path) -> Found:
        found = self_test(place, dice.randrange(2**32))
        assert found.failures, "60 images of a daemon that does not sync show no loss: the images are no good"
        assert "accepted and lost" in found.why or "had ended" in found.why, found.why
        return replace(found, failures=0, count=1, figures={"losses_found": found.failures})

    return run_trials(one, trials, seed, workdir)
