"""Promises 16 and 17: a process that cannot be killed, and a pid that belongs to somebody else now."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.campaign import ROOT, Found, Outcome, campaign, run_trials
from tests.support.daemon import Daemon, gone, until

FREEZER = Path("/sys/fs/cgroup/freezer")
"""The freezer of cgroup v1: what is frozen in it is in uninterruptible sleep, and SIGKILL waits for the thaw.
(That of v2 lets SIGKILL through.)"""


def why_no_freezer() -> str:
    """Why nothing unkillable can be made here; empty when it can."""
    return "" if os.access(FREEZER / "cgroup.procs", os.W_OK) else "no writable cgroup v1 freezer"


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process in a sleep that no signal ends."""
    group = Path(tempfile.mkdtemp(prefix="leptond-test-", dir=FREEZER))
    try:
        (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")
        until(lambda: (group / "freezer.state").read_text().strip() == "FROZEN", "it is frozen")
        yield
    finally:
        (group / "freezer.state").write_text("THAWED")
        assert gone(pid), "the kill comes with the thaw"
        until(lambda: _removed(group), "its cgroup is empty")


def _removed(group: Path) -> bool:
    with contextlib.suppress(OSError):
        group.rmdir()
        return True
    return False


@campaign("P16", title="A process that cannot be killed", short=1, full=50)
def unkillable(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is one frozen process."""
    if (why := why_no_freezer()) != "":
        return Outcome(trials=0, failures=0, skipped=why)
    return run_trials(one_unkillable, trials, seed, workdir)


def one_unkillable(dice: random.Random, place: Path) -> Found:
    """The job is given up with a verdict, its GPU is drained, no second copy starts, and all else goes on."""
    daemon = Daemon(place / "s", "--simulate-gpus", "2", env={"LEPTOND_ENGINE__KILL_TIMEOUT_S": "0.5"})
    daemon.start()
    by_limit = dice.random() < 0.5
    slowest_s = 0.0
    try:
        code = "import time; print('up', flush=True); time.sleep(600)"
        spec = {"gpus": 1, "grace_s": 0.1, "name": "stuck"}
        if by_limit:
            spec |= {"time_limit_s": 3, "retries": 2, "retry_on": ["timeout"], "retry_delay_s": 0}
        job = daemon.submit(sys.executable, "-I", "-S", "-c", code, **spec)
        daemon.printed(job, "up")
        pid = until(lambda: daemon.job(job)["attempts"][0]["pid"], "its pid is stored")
        with frozen(pid):
            if not by_limit:
                daemon.post(f"/v1/jobs/{job}/cancel")
            # its end is a hold where it would be tried again
            done = until(
                lambda: (seen := daemon.job(job))["attempts"][0]["state"] == "ended" and seen,
                "it is given up",
            )
            attempt = done["attempts"][0]
            assert "unkillable" in attempt["explanation"], done
            if by_limit:
                assert (done["state"], done["held"], attempt["class"]) == ("pending", True, "timeout"), done
            else:
                assert (done["state"], attempt["class"]) == ("cancelled", "cancelled"), done
            first, second = daemon.get("/v1/gpus").json["items"]
            used, other = (first, second) if first["drained"] else (second, first)
            assert used["drained"], (first, second)
            assert "unkillable" in used["drain_reason"]
            assert not other["drained"]
            later = [daemon.submit("true", gpus=1) for _ in range(3)]
            for one in later:
                begin = time.monotonic()
                assert daemon.job(one)
                slowest_s = max(slowest_s, time.monotonic() - begin)
                seen = daemon.finished(one)
                assert seen["state"] == "succeeded"
                assert [gpu["index"] for gpu in seen["attempts"][0]["gpus"]] == [other["index"]], seen
            assert not gone(pid, 0), "it was unkillable all the time"
            daemon.restart()
            assert daemon.get("/v1/gpus").json["items"][used["index"]]["drained"], (
                "a drain outlives a restart"
            )
        assert daemon.job(job)["attempt"] == 1
        if by_limit:
            daemon.post(f"/v1/jobs/{job}/cancel")
    finally:
        daemon.close()
    return Found(
        figures={"sum_slowest_answer_s": slowest_s}, notes={"stopped_by": "limit" if by_limit else "cancel"}
    )


def why_no_namespace() -> str:
    """Why there can be no PID namespace here; empty when there can."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("unshare") is None:
        return "no unshare"
    probe = ["unshare", "--pid", "--fork", "--mount-proc", "test", "-w", "/proc/sys/kernel/ns_last_pid"]
    return "" if subprocess.run(probe, check=False, timeout=60).returncode == 0 else "no PID namespace"


@campaign("P17", title="Somebody else has the pid", short=1, full=500)
def pid_reuse(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is one reuse of the pids of a job and of its shim."""
    if (why := why_no_namespace()) != "":
        return Outcome(trials=0, failures=0, skipped=why)
    return run_trials(one_reuse, trials, seed, workdir)


def one_reuse(dice: random.Random, place: Path) -> Found:
    """Runs :func:`reuse` as the first process of a new PID namespace."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    command += [sys.executable, "-m", "tests.faults.campaign_pids", str(place), str(dice.randrange(1 << 30))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Found(figures=json.loads(done.stdout.splitlines()[-1]))


INNOCENT = """
import os, signal, sys
for number in range(1, 65):
    try:
        signal.signal(number, lambda n, _: os.write(1, b"HEARD %d\\n" % n))
    except (OSError, ValueError):
        pass
os.write(1, b"up\\n")
while True:
    signal.pause()
"""


def reuse(place: Path, dice: random.Random) -> dict[str, int]:
    """Kills the daemon, the shim and the job, and gives their pids to others; then starts the daemon. We are
    the first process of the namespace, so orphans are ours to collect."""
    daemon = Daemon(place / "s", "--simulate-gpus", "1")
    daemon.start()
    code = "import time; print('up', flush=True); time.sleep(600)"
    stopping = dice.random() < 0.5
    job = daemon.submit(sys.executable, "-I", "-S", "-c", code, gpus=1, requeue=False, grace_s=30)
    daemon.printed(job, "up")
    pid = until(lambda: daemon.job(job)["attempts"][0]["pid"], "its pid is stored")
    shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    assert daemon.process is not None
    daemon.process.kill()
    daemon.process.wait()
    daemon.process = None
    for one in (shim, pid):
        os.kill(one, 9)
    until(lambda: _collected({shim, pid}), "both are gone")
    innocents = {target: _with_pid(target, place) for target in (shim, pid)}
    if stopping:
        # a stop that the dead daemon still had to deliver
        import sqlite3

        db = sqlite3.connect(place / "s" / "leptond.db")
        db.execute("UPDATE attempts SET state = 'stopping', stop_reason = 'cancel', stop_grace_s = 0")
        db.execute("UPDATE jobs SET state = 'stopping'")
        db.commit()
        db.close()
    daemon.start()
    done = daemon.finished(job)
    assert done["state"] == ("cancelled" if stopping else "lost"), done
    after = daemon.submit("true", gpus=1)
    assert daemon.finished(after)["state"] == "succeeded"
    daemon.restart()
    daemon.terminate()
    for target, output in innocents.items():
        assert os.waitpid(target, os.WNOHANG) == (0, 0), f"the innocent {target} was ended"
        assert output.read_text() == "up\n", (target, output.read_text())
        os.kill(target, 9)
        os.waitpid(target, 0)
    return {"innocents": len(innocents)}


def _collected(pids: set[int]) -> bool:
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def _with_pid(target: int, place: Path) -> Path:
    """Starts an innocent process that gets exactly this pid; what it hears goes to the file."""
    output = place / f"innocent-{target}"
    for _ in range(100):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(target - 1))
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 1)
            os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", INNOCENT])
        if pid == target:
            until(lambda: output.exists() and output.read_text() == "up\n", "the innocent is up")
            return output
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    raise AssertionError(f"pid {target} is not to be had")


if __name__ == "__main__":
    print(json.dumps(reuse(Path(sys.argv[1]), random.Random(int(sys.argv[2])))))
