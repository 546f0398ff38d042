"""leptond under a real systemd that is booted for these tests: the units of `systemd/` as they are shipped,
with jobs that run while the daemon hangs, is killed, restarted and upgraded.

`sudo .venv/bin/python -m pytest -q -m slow tests/systemd` (Debian: apt install systemd-container dbus)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.booted import Booted, BootFailed, why_not
from tests.support.daemon import Daemon, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(why_not() is not None, reason=f"no systemd can be booted: {why_not()}"),
    pytest.mark.xdist_group("booted"),
]

CONFIG = '[gpus]\nbackend = "simulated"\nsimulate = 2\n[engine]\nwarm = false\n'
WAITS = (
    'trap "echo stopped; exit 3" TERM; echo up $$; while [ ! -e {} ]; do sleep 0.05; done; echo over; exit 7'
)


class Inside(Daemon):
    """The daemon of a booted systemd, spoken to over its socket from outside."""

    def __init__(self, box: Booted) -> None:
        self.box = box
        self.socket = Path(f"/proc/{box.pid}/root/run/leptond/leptond.sock")

    @property
    def main_pid(self) -> int:
        """Its pid, as systemd in there knows it."""
        return int(self.box.show("leptond", "MainPID")[0])


@pytest.fixture(scope="module", params=["v2", "hybrid"])
def booted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """One systemd for the tests of a file, with cgroup v2 alone or as the machine has it."""
    place = tmp_path_factory.mktemp("booted")
    shared = place / "shared"
    shared.mkdir()
    for above in (shared, *shared.parents):
        if str(above).startswith("/tmp/"):
            above.chmod(above.stat().st_mode | 0o055)
    shared.chmod(0o777)
    box = Booted(place / "box", shared, unified=request.param == "v2")
    try:
        box.boot()
    except BootFailed as failure:
        pytest.skip(f"no systemd can be booted: {failure}")
    try:
        yield box
    finally:
        box.shut_down()


@pytest.fixture
def box(booted: Booted) -> Iterator[Booted]:
    """The systemd, in which nothing of leptond is when a test begins."""
    yield booted
    booted.call("/opt/leptond/bin/leptonctl", "cancel", "--all", "--yes")
    booted.call("systemctl", "stop", "leptond.socket", "leptond.service", "leptond-jobs.service")
    booted.call("systemctl", "reset-failed")
    pids = booted.call("pgrep", "-f", "leptond/engines").stdout.split()
    booted.call("rm", "-f", str(booted.shared / "go"))
    booted.call("kill", "-9", *pids)
    for place in ("/etc/systemd/system/leptond*", "/var/lib/leptond", "/run/leptond", "/etc/leptond"):
        booted.call("sh", "-c", f"rm -rf {place}")
    booted.run("systemctl", "daemon-reload")


def begun(
    box: Booted, unit: str = "leptond.service", *overrides: str, tight: bool = False, config: str = CONFIG
) -> Inside:
    """The daemon, installed and started; if `tight`, with its jobs in a unit of their own."""
    box.install(unit, config=config, overrides=overrides, tight=tight)
    box.run("systemctl", "start", "leptond.service")
    return Inside(box)


def waiting(daemon: Inside, shared: Path) -> tuple[int, int]:
    """A job that runs until a file is there, and its pid."""
    job = daemon.submit("/bin/sh", "-c", WAITS.format(shared / "go"), gpus=1)
    daemon.printed(job, "up")
    return job, daemon.pid(job)


def let_end(daemon: Inside, shared: Path, job: int, pid: int) -> None:
    """Lets the job end, and sees that it was one and the same all the time, undisturbed."""
    assert daemon.pid(job) == pid
    (shared / "go").touch()
    found = daemon.finished(job)
    (shared / "go").unlink()
    assert [one["exit_code"] for one in found["attempts"]] == [7]
    assert re.fullmatch(r"up \d+\nover\n", daemon.output(job))


def answered(daemon: Inside) -> None:
    """Asks until the queue is open. The socket is systemd's, so no connection is refused meanwhile."""
    until(lambda: daemon.get("/v1/jobs").status == 200, "an answer")


def adopted(daemon: Inside, before: int) -> None:
    """Waits until another process is the daemon, and is ready."""
    until(lambda: daemon.main_pid not in (0, before), "another main process")
    until(
        lambda: daemon.box.show("leptond", "ActiveState", "StatusText") == ["active", "scheduling"], "ready"
    )


def test_a_restart_leaves_the_job_as_it_is_and_refuses_nobody(box, booted):
    daemon = begun(box)
    job, pid = waiting(daemon, booted.shared)
    before = daemon.main_pid
    box.run("systemctl", "restart", "leptond.service")
    answered(daemon)
    adopted(daemon, before)
    let_end(daemon, booted.shared, job, pid)


def test_the_first_request_starts_the_daemon_and_is_answered_while_it_is_down(box):
    box.install("leptond.service", config=CONFIG)
    box.run("systemctl", "start", "leptond.socket")
    daemon = Inside(box)
    assert box.show("leptond", "ActiveState") == ["inactive"]
    mode, group = box.run("stat", "-c", "%a %G", "/run/leptond/leptond.sock").split()
    assert (mode, group) == ("660", "leptond")
    answered(daemon)
    inode = box.run("stat", "-c", "%i", "/run/leptond/leptond.sock")
    box.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", "leptond.service")
    answered(daemon)
    assert box.run("stat", "-c", "%i", "/run/leptond/leptond.sock") == inode


def test_systemd_replaces_a_daemon_that_hangs_and_its_job_goes_on(box, booted):
    daemon = begun(box, "leptond.service", "WatchdogSec=2", "TimeoutAbortSec=1", "RestartSec=0.1")
    job, pid = waiting(daemon, booted.shared)
    before = daemon.main_pid
    box.run("kill", "-STOP", str(before))
    adopted(daemon, before)
    assert box.show("leptond", "NRestarts") == ["1"]
    let_end(daemon, booted.shared, job, pid)


def test_a_killed_daemon_comes_back_to_its_job(box, booted):
    daemon = begun(box, "leptond.service", "RestartSec=0.1")
    job, pid = waiting(daemon, booted.shared)
    before = daemon.main_pid
    box.run("kill", "-KILL", str(before))
    adopted(daemon, before)
    let_end(daemon, booted.shared, job, pid)


def test_a_stop_leaves_the_job_and_a_start_finds_it(box, booted):
    daemon = begun(box)
    job, pid = waiting(daemon, booted.shared)
    box.run("systemctl", "stop", "leptond.socket", "leptond.service")
    assert box.call("kill", "-0", str(pid)).returncode == 0
    box.run("systemctl", "start", "leptond.service")
    let_end(daemon, booted.shared, job, pid)


def test_an_upgrade_takes_the_jobs_over(box, booted):
    daemon = begun(box)
    job, pid = waiting(daemon, booted.shared)
    before = daemon.main_pid
    assert daemon.get("/v1/status").json["version"] != "9.9.9"
    box.put_code("b", "9.9.9")
    box.run("systemctl", "restart", "leptond.service")
    adopted(daemon, before)
    assert daemon.get("/v1/status").json["version"] == "9.9.9"
    let_end(daemon, booted.shared, job, pid)


def test_the_journal_finds_the_lines_of_a_job(box, booted):
    daemon = begun(box)
    job, _ = waiting(daemon, booted.shared)
    find = [
        "journalctl",
        "-o",
        "json",
        "-u",
        "leptond",
        f"LEPTOND_JOB={job}",
        "LEPTOND_EVENT=attempt.started",
    ]
    entry: Any = json.loads(until(lambda: box.run(*find).strip(), "the entry").splitlines()[-1])
    assert (entry["PRIORITY"], entry["LEPTOND_ATTEMPT"]) == ("6", "1")
    assert json.loads(entry["MESSAGE"])["job"] == job


def test_the_token_can_be_a_credential(box):
    token = "lept_" + "c" * 43
    box.write("/etc/credstore/leptond.token", token + "\n", 0o600)
    box.install("leptond.service", config=CONFIG + '[http]\nlisten = "127.0.0.1:8370"\n')
    box.run("systemctl", "start", "leptond.service")
    asked = (
        "import sys, urllib.request as u; print(u.urlopen(u.Request('http://127.0.0.1:8370/v1/jobs',"
        " headers={'Authorization': 'Bearer ' + sys.argv[1]})).status)"
    )
    assert box.run("/opt/python/bin/python", "-c", asked, token).strip() == "200"
    assert box.call("test", "-e", "/var/lib/leptond/token").returncode
    box.run("rm", "/etc/credstore/leptond.token")


TRAINING = """
import torch
from torch import nn
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
data = torch.utils.data.TensorDataset(torch.randn(64, 1, 12, 12), torch.randint(0, 4, (64,)))
loader = torch.utils.data.DataLoader(data, batch_size=16, num_workers=2)
model(data[:1][0])
optimizer = torch.optim.AdamW(model.parameters())
for images, labels in loader:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
print("trained", sum(p.numel() for p in model.parameters()))
"""


def test_torch_trains_in_the_sandbox_with_workers(box):
    pytest.importorskip("torch")
    daemon = begun(box)
    job = daemon.submit("/opt/python/bin/python", "-c", TRAINING, gpus=1)
    assert daemon.finished(job)["state"] == "succeeded", daemon.output(job)
    assert "trained" in daemon.output(job)


LOOKS = """
import os, sys
groups = [line.strip().rpartition("/")[2] for line in open("/proc/self/cgroup") if "leptond" in line]
units = {part for line in open("/proc/self/cgroup") for part in line.strip().split("/") if "leptond" in part}
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
import mmap
mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
print(sorted(units), status["NoNewPrivs"].strip())
"""


def test_jobs_are_in_a_unit_of_their_own_beside_a_tight_daemon(box, booted):
    daemon = begun(box, "leptond.service", "RestartSec=0.1", tight=True)
    job = daemon.submit("/usr/bin/python3", "-c", LOOKS, gpus=1)
    assert daemon.finished(job)["state"] == "succeeded", daemon.output(job)
    assert "leptond-jobs.service" in daemon.output(job)
    assert "leptond.service'" not in daemon.output(job)
    filters = [box.run("grep", "Seccomp_filters", f"/proc/{pid}/status") for pid in (daemon.main_pid, 1)]
    assert filters[0] != filters[1]
    said = box.run("systemd-analyze", "security", "--no-pager", "leptond.service").splitlines()[-1]
    assert float(re.search(r"[0-9]+\.[0-9]+", said)[0]) <= 2.5

    job, pid = waiting(daemon, booted.shared)
    before = daemon.main_pid
    box.run("systemctl", "restart", "leptond.service")
    adopted(daemon, before)
    box.run("systemctl", "restart", "leptond-jobs.service")
    let_end(daemon, booted.shared, job, pid)
    again = daemon.submit("/bin/sh", "-c", "cat /proc/self/cgroup", gpus=1)
    assert daemon.finished(again)["state"] == "succeeded"
    assert "leptond-jobs.service" in daemon.output(again)


def test_torch_trains_cold_and_warm_beside_a_tight_daemon(box):
    pytest.importorskip("torch")
    warm = CONFIG.replace("warm = false", "warm = true")
    daemon = begun(box, tight=True, config=warm)

    def trained():
        job = daemon.submit("/opt/python/bin/python", "-c", TRAINING, gpus=1)
        assert daemon.finished(job)["state"] == "succeeded", daemon.output(job)
        return daemon.job(job)["attempts"][-1]["start"]

    assert trained().startswith("cold")
    until(lambda: trained() == "warm", "a warm start")


def test_jobs_run_as_their_submitters_in_the_unit_for_many(box, booted):
    box.call("useradd", "-m", "ana")
    box.install("leptond-multi-user.service", config=CONFIG + '[accounts]\nmode = "multi-user"\n')
    box.run("usermod", "-aG", "leptond", "ana")
    box.run("systemctl", "start", "leptond.service")
    daemon = Inside(box)
    said = box.run("su", "ana", "-c", "/opt/leptond/bin/leptonctl submit --gpus 1 -- sh -c 'id -un; id -gn'")
    job = int(re.search(r"job (\d+)", said)[1])
    assert daemon.finished(job)["state"] == "succeeded"
    assert daemon.output(job) == "ana\nana\n"
    before = daemon.main_pid
    box.run("systemctl", "restart", "leptond.service")
    adopted(daemon, before)
