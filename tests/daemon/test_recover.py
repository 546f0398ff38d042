"""A database that is older than the machine, damaged or gone: no job starts a second time, no GPU is given
away twice, no number is used again."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.invariants import Evidence, check
from tests.support.daemon import Daemon, gone, parent_of, until

PYTHON = sys.executable
WITNESS = Path(__file__).parents[1] / "faults" / "witness.py"


@pytest.fixture
def one(tmp_path):
    daemon = Daemon(tmp_path / "state", "--simulate-gpus", "4", env={"LEPTOND_QUEUE__CPU_SLOTS": "4"})
    daemon.start()
    yield daemon
    daemon.close()


def leptond(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-m", "leptond", *words, "--state-dir", str(daemon.state_dir)],
        env=daemon.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def database(daemon: Daemon) -> Path:
    return daemon.state_dir / "leptond.db"


def remove(daemon: Daemon) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database(daemon)}{suffix}").unlink(missing_ok=True)


def bytes_of(daemon: Daemon) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in daemon.state_dir.glob("leptond.db*")}


def works(daemon: Daemon, witness: Path, **spec) -> int:
    """A job that runs until it is told to stop, and testifies."""
    return daemon.submit(PYTHON, "-S", str(WITNESS), str(witness), "600", "0", **{"grace_s": 20, **spec})


def started(daemon: Daemon, job: int, witness: Path) -> int:
    """Its pid, once it has testified."""
    until(lambda: witness.exists() and f'"job_id": {job},' in witness.read_text(), f"job {job} runs")
    return daemon.pid(job)


def quiet(daemon: Daemon, witness: Path, accepted: list[int]) -> None:
    """Everything is cancelled; the invariants hold, by what the jobs themselves wrote down."""
    for job in daemon.get("/v1/jobs?order=queue&limit=1000").json["items"]:
        daemon.post(f"/v1/jobs/{job['id']}/cancel")
    for job in accepted:
        daemon.finished(job)
    seen = Evidence(daemon.state_dir, witness)
    assert seen.integrity == ["ok"]
    assert seen.foreign_keys == []
    assert seen.leases == []
    starts = [line["attempt_id"] for line in seen.witness if line["what"] == "start"]
    assert len(starts) == len(set(starts)), "an attempt ran twice"
    assert {job["id"] for job in seen.jobs.values()} >= set(accepted)


def live_copies(daemon: Daemon, witness: Path) -> dict[int, int]:
    """How many copies of each job are alive, by the cookies in /proc."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            environ = (entry / "environ").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if f"LEPTOND_HOST=unix://{daemon.socket}".encode() in environ:
                job = next(int(item[15:]) for item in environ if item.startswith(b"LEPTOND_JOB_ID="))
                found[job] = found.get(job, 0) + 1
    return found


@pytest.mark.parametrize("how", ["backup", "copy"])
def test_an_older_database_put_back_while_jobs_run(one, tmp_path, how):
    witness = tmp_path / "witness"
    early = works(one, witness, gpus=1)
    early_pid = started(one, early, witness)
    late = works(one, witness, gpus=1, hold=True)
    old = tmp_path / "old"
    old.mkdir()
    if how == "backup":
        (old / "leptond.db").write_bytes(one.get("/v1/db/backup").data)
    else:
        one.process.send_signal(signal.SIGSTOP)
        for file in one.state_dir.glob("leptond.db*"):
            shutil.copy(file, old)
        one.process.send_signal(signal.SIGCONT)
    one.post(f"/v1/jobs/{late}/release")
    new = works(one, witness, gpus=1, name="newcomer", priority=7, contact="Ana, #night")
    short = one.submit("sh", "-c", "exit 7")
    pids = {early: early_pid, late: started(one, late, witness), new: started(one, new, witness)}
    one.finished(short)
    one.kill()
    remove(one)
    for file in old.iterdir():
        shutil.copy(file, one.state_dir)
    one.start()
    for job, pid in pids.items():
        seen = one.job(job)
        assert (seen["state"], seen["attempt"]) == ("running", 1), seen
        assert until(lambda job=job: one.job(job)["attempts"][-1]["pid"], "its pid") == pid
    found = one.job(new)
    assert (found["name"], found["priority"], found["labels"]) == ("newcomer", 7, {"orphan": "recovered"})
    assert (found["contact"], "contact" in found["spec"]) == ("Ana, #night", False)
    ended = one.finished(short)
    assert (ended["state"], ended["exit_code"]) == ("failed", 7), "what ended unseen is booked"
    holders = [gpu["job_id"] for gpu in one.get("/v1/gpus").json["items"]]
    assert sorted(job for job in holders if job) == sorted(pids)
    assert live_copies(one, witness) == {early: 1, late: 1, new: 1}
    fresh = works(one, witness, gpus=1)
    assert fresh > short + 100, "numbers that may have been given out are not given again"
    started(one, fresh, witness)
    assert live_copies(one, witness) == {early: 1, late: 1, new: 1, fresh: 1}
    quiet(one, witness, [early, late, new, short, fresh])


def test_a_copy_from_between_claim_and_start(one, tmp_path):
    """The older database knows the attempt, but not who supervises it: to it, nothing ever started."""
    witness = tmp_path / "witness"
    job = works(one, witness, gpus=1)
    pid = started(one, job, witness)
    one.kill()
    with contextlib.closing(sqlite3.connect(database(one))) as db:
        db.executescript(
            "DROP TRIGGER jobs_legal_move;"
            f"UPDATE attempts SET shim_pid = NULL, shim_start = NULL, pid = NULL, state = 'starting',"
            f" started_at = NULL WHERE job_id = {job};"
            f"UPDATE jobs SET state = 'starting', started_at = NULL WHERE id = {job};"
        )
    one.start()
    assert one.job(job)["attempt"] == 1
    assert live_copies(one, witness) == {job: 1}
    assert Path(f"/proc/{pid}").exists()
    quiet(one, witness, [job])


def zero_page_of(file: Path, table: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    data = bytearray(file.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = bytes(4096)
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("lost", "with_backup"),
    [
        ("jobs", False),
        pytest.param("attempts", True, marks=pytest.mark.slow),
        ("everything", True),
        ("the file", False),
    ],
)
def test_a_damaged_database_is_rebuilt_around_what_runs(one, tmp_path, lost, with_backup):
    witness = tmp_path / "witness"
    done = one.submit("sh", "-c", "exit 3")
    one.finished(done)
    if with_backup:
        assert one.post("/v1/db/backups").status == 201
    running = works(one, witness, gpus=2)
    pid = started(one, running, witness)
    one.kill()
    file = database(one)
    if lost == "everything":
        remove(one)  # its log alone would bring it all back
        file.write_bytes(b"\0" * 8192)
    elif lost == "the file":
        remove(one)
    else:
        zero_page_of(file, lost)
    before = bytes_of(one)
    with pytest.raises(AssertionError, match="ended with 78"):
        one.start()
    assert bytes_of(one) == before
    dry = leptond(one, "recover", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert f"runs: job {running}, attempt 1" in dry.stdout
    assert bytes_of(one) == before, "a dry run changes nothing"
    assert sorted(path.name for path in one.state_dir.glob(".*")) == []
    real = leptond(one, "recover")
    assert real.returncode == 0, real.stderr
    aside = {path.name: path.read_bytes() for path in one.state_dir.glob("damaged/*/*")}
    assert aside == before, "the damaged file is kept as it was"
    one.start()
    assert one.job(running)["state"] == "running"
    assert until(lambda: one.job(running)["attempts"][-1]["pid"], "its pid") == pid
    held = [gpu["job_id"] for gpu in one.get("/v1/gpus").json["items"]]
    assert held.count(running) == 2, "its GPUs stay its own"
    ended = one.finished(done)
    assert (ended["state"], ended["exit_code"]) == ("failed", 3)
    assert works(one, witness) > 1000
    assert live_copies(one, witness)[running] == 1
    assert "nothing to recover" in leptond_refused_while_running(one)
    quiet(one, witness, [running, done])


def leptond_refused_while_running(one) -> str:
    refused = leptond(one, "recover")
    assert refused.returncode == 75, refused.stderr
    assert f"pid {one.process.pid}" in refused.stderr
    one.kill()
    sound = leptond(one, "recover")
    one.start()
    assert sound.returncode == 0, sound.stderr
    return sound.stdout


def test_the_database_of_another_queue_is_refused(one, tmp_path):
    job = one.submit("sh", "-c", "echo up; sleep 600", gpus=1)
    one.printed(job, "up")
    other = Daemon(tmp_path / "other" / "state", "--simulate-gpus", "1")
    other.start()
    other.close()
    one.kill()
    kept = bytes_of(one)
    remove(one)
    shutil.copy(database(other), one.state_dir)
    before = database(one).read_bytes()
    with pytest.raises(AssertionError, match="ended with 78"):
        one.start()
    assert "is not the database of the jobs" in one.log.read_text()
    assert database(one).read_bytes() == before
    remove(one)
    for name, data in kept.items():
        (one.state_dir / name).write_bytes(data)
    one.start()
    assert one.job(job)["state"] == "running"


def test_a_backup_can_be_asked_for_by_name(one, tmp_path):
    kept = one.submit("true", hold=True)
    copy = tmp_path / "copy.db"
    copy.write_bytes(one.get("/v1/db/backup").data)
    gone = one.submit("true", hold=True)
    one.kill()
    wrong = leptond(one, "recover", "--from", str(tmp_path / "none.db"))
    assert wrong.returncode == 78
    assert leptond(one, "recover", "--from", str(copy)).returncode == 0
    one.start()
    assert one.get(f"/v1/jobs/{kept}").status == 200
    assert one.get(f"/v1/jobs/{gone}").status == 404
    assert one.submit("true", hold=True) > gone + 100


def test_a_shim_that_died_with_the_database(one, tmp_path):
    """Nobody knows how it ended: it is lost, loudly, and its processes are gone before its GPU is free."""
    witness = tmp_path / "witness"
    job = works(one, witness, gpus=4, requeue=False)
    pid = started(one, job, witness)
    shim = parent_of(pid)
    one.kill()
    remove(one)
    assert leptond(one, "recover").returncode == 0
    os.kill(shim, 9)
    one.start()
    assert one.finished(job)["state"] == "lost"
    assert gone(pid, 0)


def test_invariants_hold_after_a_restored_backup(one, tmp_path):
    witness = tmp_path / "witness"
    jobs = [works(one, witness, gpus=1) for _ in range(3)]
    for job in jobs:
        started(one, job, witness)
    old = one.get("/v1/db/backup").data
    one.kill()
    remove(one)
    database(one).write_bytes(old)
    one.start()
    for job in jobs:
        assert one.post(f"/v1/jobs/{job}/cancel").status == 202
        one.finished(job)
    check(Evidence(one.state_dir, witness), jobs)
