"""A cancel ends every process of a job, whatever it did to get away."""

import json
import random
import sys

import pytest

from tests.faults.campaign_zoo import no_cgroup, one_round
from tests.faults.zoo import kinds

PYTHON = sys.executable


OUT_OF_THE_CGROUP = {
    "daemonises",
    "fork-chain-of-sessions",
    "fork-storm",
    "kills-its-shim-and-hides",
    "leaves-its-cgroup",
    "main-thread-ends",
    "pid-namespace",
    "ptraces-its-shim",
    "stops-its-children",
}


@pytest.mark.parametrize("with_cgroup", [False, True], ids=["tree", "cgroup"])
def test_nothing_survives_of_the_whole_zoo(tmp_path_factory, with_cgroup):
    if with_cgroup and (why := no_cgroup()):
        pytest.skip(why)
    chosen = [kind for kind in kinds().values() if not kind.missing()]
    assert len(chosen) >= 25
    if with_cgroup:  # where the cgroup does the work, the ways out of it are what is worth a try
        chosen = [kind for kind in chosen if kind.name in OUT_OF_THE_CGROUP]
    place = tmp_path_factory.mktemp("zoo")
    found = one_round(random.Random(14), place, chosen, place / "build", with_cgroup=with_cgroup)
    assert found.failures == 0, found.why


def test_a_cancel_before_the_start_starts_nothing(daemon, tmp_path):
    marker = tmp_path / "ran"
    jobs = [daemon.submit("sh", "-c", f"echo x >> {marker}", hold=True) for _ in range(3)]
    for job in jobs:
        assert daemon.post(f"/v1/jobs/{job}/cancel").json["state"] == "cancelled"
        assert daemon.post(f"/v1/jobs/{job}/cancel").status == 409
    assert not marker.exists()


def test_behind_a_shell_the_signal_reaches_the_command(daemon):
    python = (
        'import signal, sys, time; signal.signal(15, lambda *_: (print("saved", flush=True), sys.exit(0)));'
        ' print("up", flush=True); time.sleep(600)'
    )
    job = daemon.submit(f"{PYTHON} -c '{python}'; echo after", shell=True)
    daemon.printed(job, "up")
    daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 30})
    assert daemon.finished(job)["state"] == "cancelled"
    assert "saved" in daemon.output(job)


def test_a_job_may_kill_its_own_group_without_harm(daemon):
    job = daemon.submit("sh", "-c", "echo before; kill -9 0; echo never", no_retry_on=["SIGKILL"])
    done = daemon.finished(job)
    assert (done["signal"], daemon.output(job, 1)) == ("SIGKILL", "before\n")


def test_the_shim_leaves_no_descriptor_to_the_job(daemon):
    script = "import os, json; print(json.dumps(sorted(map(int, os.listdir('/proc/self/fd')))))"
    job = daemon.submit(PYTHON, "-c", script)
    daemon.finished(job)
    # the fourth is the listing's own
    assert json.loads(daemon.output(job)) == [0, 1, 2, 3]
