"""Campaigns on what keeps the queue: damaged files (P9), an older database put back (P10), and how long a
start takes with a long history (P4)."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from leptond.attempt_files.directory import live_attempts
from tests.faults.campaign import Found, Outcome, campaign, run_trials
from tests.support.daemon import PATIENCE_S, Daemon, gone, until

PYTHON = sys.executable
WITNESS = Path(__file__).parents[1] / "faults" / "witness.py"
ENV = {"LEPTOND_QUEUE__CPU_SLOTS": "4", "LEPTOND_STORAGE__BACKUP_EVERY_S": "0"}
KEPT = ("leptond.db", "leptond.db-wal", "leptond.db-shm", "lineage.json")


def works(daemon: Daemon, witness: Path, **spec: object) -> int:
    """A job that runs until it is told to stop, and testifies."""
    return daemon.submit(PYTHON, "-S", str(WITNESS), str(witness), "86400", "0", **{"grace_s": 5, **spec})


def started(daemon: Daemon, job: int, witness: Path) -> int:
    """Its pid, once it has testified."""
    until(lambda: witness.exists() and f'"job_id": {job},' in witness.read_text(), f"job {job} runs")
    return int(until(lambda: daemon.job(job)["attempts"][-1]["pid"], "its pid"))


def starts(witness: Path) -> int:
    """How many attempts have begun."""
    return witness.read_text().count('"what": "start"')


class World:
    """A queue whose daemon was killed: two jobs run, one ended unseen, others wait. Its files can be brought
    back to that moment again and again; the running jobs go on meanwhile."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="lk-"))
        self.daemon = Daemon(self.place / "state", "--simulate-gpus", "4", env=ENV)
        self.state = self.daemon.state_dir
        self.witness = self.place / "witness"
        self.daemon.start()
        go = self.place / "go"
        done = self.daemon.submit("true")
        self.daemon.finished(done)
        assert self.daemon.post("/v1/db/backups").status == 201
        self.live = [works(self.daemon, self.witness, gpus=gpus) for gpus in (1, 2)]
        self.pids = [started(self.daemon, job, self.witness) for job in self.live]
        wait = f"echo up; while [ ! -e {go} ]; do sleep 0.05; done; exit 7"
        self.unseen = self.daemon.submit("sh", "-c", wait, requeue=False)
        self.daemon.printed(self.unseen, "up")
        for number in range(60):
            self.daemon.submit("true", hold=True, name=f"held-{number}", labels={"note": "x" * 200})
        pid = self.daemon.pid(self.unseen)
        self.daemon.kill()
        go.touch()
        assert gone(pid)
        exit_file = self.state / "jobs" / str(self.unseen) / "1" / "exit.json"
        until(exit_file.exists, "its record")
        self.exit_file = exit_file
        self.kept = {name: (self.state / name).read_bytes() for name in KEPT if (self.state / name).exists()}
        self.exit_record = exit_file.read_bytes()
        self.backups = {path: path.read_bytes() for path in (self.state / "backups").iterdir()}

    def restore(self) -> None:
        """The moment after the kill."""
        for name in KEPT:
            (self.state / name).unlink(missing_ok=True)
        for name, data in self.kept.items():
            (self.state / name).write_bytes(data)
        self.exit_file.write_bytes(self.exit_record)
        shutil.rmtree(self.state / "damaged", ignore_errors=True)
        self.daemon.log.unlink(missing_ok=True)

    def whole(self) -> bool:
        """Whether its jobs still run."""
        return all(Path(f"/proc/{pid}").exists() for pid in self.pids)

    def close(self) -> None:
        """Ends its jobs."""
        if self.daemon.process is not None:
            self.daemon.kill()
        for one in live_attempts(self.state / "jobs"):
            with contextlib.suppress(OSError):
                os.kill(one.pid, signal.SIGKILL)
        for pid in self.pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.place, ignore_errors=True)


_worlds: list[World] = []


def the_world() -> World:
    """The one of this process; a new one when its jobs were lost."""
    if _worlds and not _worlds[-1].whole():
        _worlds.pop().close()
    if not _worlds:
        _worlds.append(World())
        atexit.register(_worlds[-1].close)
    return _worlds[-1]


def damage(world: World, dice: random.Random) -> str:
    """Harms one of the files; what was done."""
    kind = dice.choice(["flip", "flip-wal", "cut", "cut-wal", "zero", "no-wal", "no-db", "foreign", "exit"])
    file = world.state / ("leptond.db-wal" if kind.endswith("-wal") else "leptond.db")
    if kind == "exit":
        file = world.exit_file
    if kind in ("cut", "zero", "foreign", "flip") and dice.random() < 0.7:
        # what the log holds would hide the damage
        with contextlib.closing(sqlite3.connect(world.state / "leptond.db")) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(file.read_bytes()) if file.exists() else bytearray()
    match kind:
        case "flip" | "flip-wal" | "exit" if data:
            for _ in range(dice.choice([1, 1, 4, 32])):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            file.write_bytes(data)
        case "cut" | "cut-wal" if data:
            file.write_bytes(data[: dice.randrange(len(data))])
        case "zero" if data:
            page = dice.randrange(len(data) // 4096) * 4096
            data[page : page + 4096] = bytes(4096)
            file.write_bytes(data)
        case "no-wal":
            for suffix in ("-wal", "-shm"):
                Path(f"{world.state / 'leptond.db'}{suffix}").unlink(missing_ok=True)
        case "no-db":
            file.unlink()
        case "foreign":
            for suffix in ("-wal", "-shm"):
                Path(f"{file}{suffix}").unlink(missing_ok=True)
            file.unlink()
            if dice.random() < 0.5:
                file.write_bytes(dice.randbytes(dice.randrange(1, 20_000)))
            else:
                with contextlib.closing(sqlite3.connect(file)) as db:
                    db.execute("CREATE TABLE other (x)")
                    db.commit()
    return kind


def opens(world: World) -> bool:
    """Starts the daemon: True when it works with the files, False when it refuses them as it should."""
    world.daemon.log.unlink(missing_ok=True)
    before = {path.name: path.read_bytes() for path in world.state.glob("leptond.db*")}
    try:
        world.daemon.start()
        world.daemon.get("/v1/jobs?limit=200")
        world.daemon.get("/v1/status")
    except (AssertionError, OSError):
        process = world.daemon.process
        assert process is not None
        code = process.wait(PATIENCE_S)
        world.daemon.process = None
        text = world.daemon.log.read_text()
        assert code == 78, f"exit code {code}: {text[-3000:]}"
        assert "Traceback" not in text, text[-3000:]
        assert text.count("leptond: ") == 1, text[-3000:]
        assert "leptond recover" in text, text[-3000:]
        if '"daemon.ready"' not in text:  # refused at the door: nothing was changed
            assert {p.name: p.read_bytes() for p in world.state.glob("leptond.db*")} == before
        return False
    return True


def one_damage(dice: random.Random, place: Path) -> Found:
    world = the_world()
    world.restore()
    begun = starts(world.witness)
    kind = damage(world, dice)
    daemon = world.daemon
    notes = {"damage": kind}
    try:
        opened = opens(world)
        notes["outcome"] = "opened" if opened else "refused"
        if not opened:
            listed = {one.job_id for one in live_attempts(world.state / "jobs")}
            assert listed == set(world.live), "the live jobs are listed without a database"
            before = {path.name: path.read_bytes() for path in world.state.glob("leptond.db*")}
            mend = subprocess.run(
                [PYTHON, "-m", "leptond", "recover", "--state-dir", str(world.state)],
                env=daemon.env,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            assert mend.returncode == 0, mend.stderr
            aside = {path.name: path.read_bytes() for path in world.state.glob("damaged/*/*")}
            assert aside == before, "the damaged file is kept as it was"
            assert opens(world), "it works after a recovery"
        for job, pid in zip(world.live, world.pids, strict=True):
            seen = daemon.job(job)
            assert (seen["state"], seen["attempt"]) == ("running", 1), seen
            assert Path(f"/proc/{pid}").exists()
        held = sorted(gpu["job_id"] for gpu in daemon.get("/v1/gpus").json["items"] if gpu["job_id"])
        assert held == sorted([world.live[0], *[world.live[1]] * 2]), f"leased: {held}"
        end = daemon.finished(world.unseen)
        assert (end["state"], end["exit_code"]) == ("failed", 7) or (end["state"] == "lost"), end
        assert starts(world.witness) == begun, "a second copy was started"
    finally:
        if daemon.process is not None:
            daemon.kill()
    return Found(notes=notes)


@campaign("P9", title="Damaged database, log and exit records", short=12, full=1000)
def damaged_files(trials: int, seed: int, workdir: Path) -> Outcome:
    return run_trials(one_damage, trials, seed, workdir)


def one_old_database(dice: random.Random, place: Path) -> Found:
    witness = place / "witness"
    daemon = Daemon(place / "state", "--simulate-gpus", "4", env=ENV)
    daemon.start()
    known: dict[int, int] = {}
    waiting: list[int] = []
    how = dice.choice(["backup", "copy"])
    try:
        for _ in range(dice.randrange(3)):
            job = works(daemon, witness, gpus=1)
            known[job] = started(daemon, job, witness)
        held = [dice.choice([0, 0, 1]) for _ in range(dice.randrange(4))]
        waiting = [works(daemon, witness, hold=True, gpus=gpus) for gpus in held]
        old = {}
        if how == "backup":
            old["leptond.db"] = daemon.get("/v1/db/backup").data
        else:
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGSTOP)
            old = {file.name: file.read_bytes() for file in daemon.state_dir.glob("leptond.db*")}
            daemon.process.send_signal(signal.SIGCONT)
        shorts = [daemon.submit("sh", "-c", "exit 7") for _ in range(dice.randrange(3))]
        room = 4 - len(known)
        for _ in range(dice.randrange(3)):
            gpus = 1 if room > 0 and dice.random() < 0.7 else 0
            room -= gpus
            job = works(daemon, witness, gpus=gpus)
            known[job] = started(daemon, job, witness)
        for job in waiting:
            if dice.random() < 0.5 and room > 1:
                room -= 1
                daemon.post(f"/v1/jobs/{job}/release")
                known[job] = started(daemon, job, witness)
        for job in shorts:
            daemon.finished(job)
        daemon.kill()
        for file in daemon.state_dir.glob("leptond.db*"):
            file.unlink()
        for name, data in old.items():
            (daemon.state_dir / name).write_bytes(data)
        begun = starts(witness) if witness.exists() else 0
        daemon.start()
        for job, pid in known.items():
            seen = daemon.job(job)
            assert (seen["state"], seen["attempt"]) == ("running", 1), seen
            assert Path(f"/proc/{pid}").exists()
        for job in shorts:
            end = daemon.finished(job)
            assert (end["state"], end["exit_code"], end["attempt"]) == ("failed", 7, 1), end
        fresh = daemon.submit("true")
        assert fresh not in {*known, *waiting, *shorts}
        daemon.finished(fresh)
        assert (starts(witness) if witness.exists() else 0) == begun, "a second copy was started"
    finally:
        daemon.close()
    return Found(notes={"how": how}, figures={"adopted": len(known)})


@campaign("P10", title="An older database put back while jobs run", short=5, full=200)
def old_databases(trials: int, seed: int, workdir: Path) -> Outcome:
    return run_trials(one_old_database, trials, seed, workdir)


HISTORY, QUEUED, RUNNING = 100_000, 10_000, 8


def grow(database: Path, pattern: int) -> None:
    """A long history and a deep queue, made of copies of the finished job `pattern` and its attempt."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        columns = [row[1] for row in db.execute("PRAGMA table_info(jobs)")]
        names = ", ".join(f'"{name}"' for name in columns if name != "id")
        attempt = [
            row[1] for row in db.execute("PRAGMA table_info(attempts)") if row[1] not in ("id", "job_id")
        ]
        attempt_names = ", ".join(f'"{name}"' for name in attempt)
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        db.execute("BEGIN")
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        first = db.execute("SELECT max(id) FROM jobs").fetchone()[0] + 1
        count = "WITH RECURSIVE n(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        last = first + HISTORY - 1
        db.execute(
            f"{count} INSERT INTO jobs (id, {names}) SELECT i, {names} FROM n, jobs WHERE id = ?",
            (first, last, pattern),
        )
        db.execute(
            f"{count} INSERT INTO attempts (id, job_id, {attempt_names})"
            f" SELECT printf('%032x', i), i, {attempt_names} FROM n, attempts WHERE job_id = ?",
            (first, last, pattern),
        )
        db.execute(
            f"{count} INSERT INTO events (at, type, job_id, attempt, data)"
            " SELECT at, type, i, attempt, data FROM n, events WHERE job_id = ?",
            (first, last, pattern),
        )
        db.execute(
            f"{count} INSERT INTO jobs (id, {names}) SELECT i, {names} FROM n, jobs WHERE id = ?",
            (last + 1, last + QUEUED, pattern),
        )
        db.execute(
            "UPDATE jobs SET state = 'pending', ended_at = NULL, started_at = NULL, attempt = 0,"
            " class = NULL, gpus = 8, exit_code = NULL, explanation = NULL WHERE id > ?",
            (last,),
        )
        from leptond.store.recovery.salvage import COUNTS

        for table in COUNTS:
            if table != "job_counts":  # its rows are set anew, one a state
                db.execute(f"DELETE FROM {table}")
        for again in COUNTS.values():
            db.execute(again)
        for _, sql in triggers:
            db.execute(sql)
        db.execute("COMMIT")


def one_long_start(dice: random.Random, place: Path) -> Found:
    daemon = Daemon(place / "state", "--simulate-gpus", str(RUNNING), env=ENV)
    witness = place / "witness"
    pids: list[int] = []
    daemon.start()
    try:
        pattern = daemon.submit("true")
        daemon.finished(pattern)
        live = [works(daemon, witness, gpus=1) for _ in range(RUNNING)]
        pids = [started(daemon, job, witness) for job in live]
        daemon.kill()
        grow(daemon.state_dir / "leptond.db", pattern)
        begin = time.monotonic()
        with daemon.log.open("ab") as log:
            daemon.process = subprocess.Popen(
                [PYTHON, "-m", "leptond", "run", "--state-dir", str(daemon.state_dir), *daemon.options],
                env=daemon.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        first = adopted = 0.0
        while not adopted:
            assert daemon.process.poll() is None, daemon.tail()
            with contextlib.suppress(OSError):
                if not first and daemon.get("/healthz").status == 200:
                    first = time.monotonic() - begin
                if daemon.get("/readyz").status == 200:
                    adopted = time.monotonic() - begin
            time.sleep(0.005)
        counts = daemon.get("/v1/status").json["counts"]
        assert (counts["running"], counts["pending"]) == (RUNNING, QUEUED), counts
        assert all(daemon.job(job)["attempt"] == 1 for job in live)
        size = (daemon.state_dir / "leptond.db").stat().st_size
    finally:
        if daemon.process is not None:
            daemon.kill()
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for one in live_attempts(daemon.state_dir / "jobs"):
            until(lambda one=one: not one.alive, "its shim ends")
    slow = first > 2.0 or adopted > 3.0
    words = f"first answer after {first:.2f} s, all adopted after {adopted:.2f} s"
    return Found(
        failures=int(slow),
        figures={"first_200_s": round(first, 3), "adopted_s": round(adopted, 3), "database_bytes": size},
        why=words if slow else "",
    )


@campaign("P4", title="A start with 100,000 jobs of history, 10,000 queued, 8 running", short=1, full=20)
def long_starts(trials: int, seed: int, workdir: Path) -> Outcome:
    return run_trials(one_long_start, trials, seed, workdir)
