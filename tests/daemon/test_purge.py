"""Purging, by the command line of a real daemon."""

import json

from tests.daemon.test_backup import leptonctl
from tests.support.daemon import Daemon


def test_a_purge_says_what_would_go_and_then_does_it(shared_daemon: Daemon):
    done = [shared_daemon.submit("sh", "-c", "echo printed") for _ in range(3)]
    for job in done:
        shared_daemon.finished(job)
    waits = shared_daemon.submit("true", hold=True, after=[str(done[0])])
    place = shared_daemon.state_dir / "jobs"
    would = leptonctl(shared_daemon, "purge", "--older-than", "0.001", "--dry-run", "--json")
    assert would.returncode == 0, would.stderr
    assert {*done[1:]} <= set(json.loads(would.stdout)["job_ids"])
    assert done[0] not in json.loads(would.stdout)["job_ids"], "a job that waits still speaks of it"
    assert json.loads(would.stdout)["bytes"] > 0
    assert all((place / str(job)).exists() for job in done)
    told = leptonctl(shared_daemon, "purge", "--older-than", "0.001")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("Forgot ")
    assert [(place / str(job)).exists() for job in done] == [True, False, False]
    assert shared_daemon.get(f"/v1/jobs/{done[1]}").status == 404
    needed = leptonctl(shared_daemon, "purge", str(done[0]))
    assert needed.returncode == 4
    assert f"job {waits} depends on it" in needed.stderr
    shared_daemon.post(f"/v1/jobs/{waits}/cancel")
    assert leptonctl(shared_daemon, "purge", str(done[0])).returncode == 0
    assert not (place / str(done[0])).exists()
    assert leptonctl(shared_daemon, "purge", "1", "--dry-run").returncode == 2
