"""Backups of a running daemon, by its command line."""

import hashlib
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, until


def leptonctl(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leptond.cli", "--host", f"unix://{daemon.socket}", *words],
        env=daemon.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def jobs_in(path):
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return [row[0] for row in db.execute("SELECT id FROM jobs ORDER BY id")]


def test_a_backup_to_a_file_of_mine(shared_daemon, tmp_path):
    job = shared_daemon.submit("true", env={"API_TOKEN": "s3cret"})
    target = tmp_path / "queue.db"
    done = leptonctl(shared_daemon, "db", "backup", str(target))
    assert done.returncode == 0, done.stderr
    assert job in jobs_in(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["queue.db"], "and nothing else"
    before = target.read_bytes()
    again = leptonctl(shared_daemon, "db", "backup", str(target))
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert target.read_bytes() == before
    shared_daemon.submit("true")
    assert leptonctl(shared_daemon, "db", "backup", str(target), "--force").returncode == 0
    os.mkfifo(tmp_path / "pipe")
    assert leptonctl(shared_daemon, "db", "backup", str(tmp_path / "pipe"), "--force").returncode != 0
    assert (tmp_path / "pipe").is_fifo()
    assert target.read_bytes() != before
    nowhere = leptonctl(shared_daemon, "db", "backup", str(tmp_path / "no" / "x.db"))
    assert nowhere.returncode == 1
    assert "Traceback" not in nowhere.stderr
    left = list(shared_daemon.state_dir.glob(".*"))
    assert left == []


def test_the_stream_says_its_checksum(shared_daemon):
    answer = shared_daemon.get("/v1/db/backup")
    assert answer.status == 200
    assert answer.headers["X-Checksum-Sha256"] == hashlib.sha256(answer.data).hexdigest()
    assert answer.data.startswith(b"SQLite format 3\0")


def test_a_backup_of_the_daemon_and_what_it_says_of_its_database(shared_daemon):
    done = leptonctl(shared_daemon, "db", "backup")
    assert done.returncode == 0, done.stderr
    seen = shared_daemon.get("/v1/db").json
    (one,) = seen["backups"]
    file = shared_daemon.state_dir / "backups" / one["name"]
    assert file.stat().st_size == one["bytes"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert jobs_in(file) == jobs_in(shared_daemon.state_dir / "leptond.db")
    shown = leptonctl(shared_daemon, "db", "info")
    assert one["name"] in shown.stdout
    assert str(shared_daemon.state_dir) in shown.stdout


def test_the_daemon_takes_backups_by_itself_and_keeps_some(tmp_path):
    env = {"LEPTOND_STORAGE__BACKUP_EVERY_S": "0.2", "LEPTOND_STORAGE__BACKUP_KEEP": "1"}
    one = Daemon(tmp_path / "state", "--simulate-gpus", "1", env=env)
    one.start()
    try:
        place = tmp_path / "state" / "backups"
        first = until(lambda: place.exists() and list(place.glob("leptond-*.db")), "a backup")
        until(lambda: (now := list(place.glob("leptond-*.db"))) != first and len(now) == 1, "the next one")
    finally:
        one.close()


def test_a_daemon_whose_database_is_damaged_says_so_once_and_leaves_it(tmp_path):
    one = Daemon(tmp_path / "state", "--simulate-gpus", "1")
    one.start()
    job = one.submit("sh", "-c", "echo up; sleep 600", gpus=1)
    one.printed(job, "up")
    pid = one.pid(job)
    one.terminate()
    file = tmp_path / "state" / "leptond.db"
    whole = file.read_bytes()
    broken = whole[:4096] + bytes(8192) + whole[12288:]
    file.write_bytes(broken)
    one.log.unlink()
    with pytest.raises(AssertionError, match="ended with 78"):
        one.start()
    one.process = None  # so that `close` starts one, to end the job
    assert one.log.read_text().count("leptond recover") == 1
    assert "Traceback" not in one.log.read_text()
    assert file.read_bytes() == broken
    assert Path(f"/proc/{pid}").exists(), "the job goes on"
    listed = leptonctl(one, "db", "recover", "--state-dir", str(tmp_path / "state"), "--json")
    assert listed.returncode == 0, listed.stderr
    assert f'"job_id": {job}' in listed.stdout
    file.write_bytes(whole)
    one.close()
