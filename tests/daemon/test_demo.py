"""The demonstration, whole, as the README promises it."""

import json
import os
import subprocess
import sys

import pytest

IMPORTS_ONCE = {
    "LEPTOND_ENGINE__WARM_IMPORTS": '["torch", "torch._dynamo"]',
    # no job is prepared before there is a warm process
    "LEPTOND_ENGINE__STANDBY": "0",
}
"""What torch needs for its first optimizer is imported once instead of in nearly every job."""


@pytest.mark.timeout(520)  # five trainings, and whatever else the machine does
def test_every_outcome_of_the_demonstration_is_what_it_should_be(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "leptond", "demo", "--json", "--simulate-gpus", "2"],
        env={**os.environ, "TMPDIR": str(tmp_path), **IMPORTS_ONCE},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    result = json.loads(done.stdout)
    jobs = {job["name"]: job for job in result["jobs"]}
    assert result["ok"] is True
    assert {name: job["state"] for name, job in jobs.items()} == {
        name: job["expected"] for name, job in jobs.items()
    }
    assert [one["class"] for one in jobs["flaky"]["attempts"]] == ["user", "ok"]
    assert [one["class"] for one in jobs["overrun"]["attempts"]] == ["timeout"]
    assert [one["class"] for one in jobs["typo"]["attempts"]] == ["config"]
    assert len(jobs["train-ddp"]["attempts"][0]["gpus"]) == 2
    assert all(one["gpu_seconds"] > 0 for job in jobs.values() for one in job["attempts"])
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_outcome_is_right_beside_busy_loops_too(tmp_path):
    """As many loops as there are cores: an import of torch takes several times as long."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        for _ in range(3):
            test_every_outcome_of_the_demonstration_is_what_it_should_be(tmp_path)
    finally:
        for one in busy:
            one.kill()
            one.wait()
