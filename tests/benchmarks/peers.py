"""The peers: task-spooler and Slurm as Debian has them (`apt-get install task-spooler slurm-wlm munge`), each
on a private socket or on ports of its own; submitit, `xargs -P` and Ray Tune for sweeps (sweep.py). What is
not installed is skipped by name."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.figures import RAY, SLURM, SUBMITIT, TSP, XARGS
from tests.support.daemon import until

READY_S = 30.0
END_S = 30.0
MOST_QUEUED = 900
"""task-spooler keeps a connection for each queued job and fails at about a thousand."""


def missing(name: str, ray: Path | None = None) -> str:
    """Return why a peer cannot be measured here; empty when it can. `ray` is the environment of Ray Tune."""
    if name == TSP:
        return "" if shutil.which("tsp") else "task-spooler is not installed"
    if name == XARGS:
        return "" if shutil.which("xargs") else "xargs is not installed"
    if name == SUBMITIT:
        return "" if find_spec("submitit") else "submitit is not installed"
    if name == RAY:
        python = ray / "bin" / "python" if ray is not None else None
        return "" if python is not None and python.exists() else "there is no environment of Ray Tune (--ray)"
    assert name == SLURM, name
    absent = [program for program in ("munged", "slurmctld", "slurmd", "sbatch") if not _which(program)]
    if absent:
        return f"Slurm is not installed ({', '.join(absent)})"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root here"


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


class TaskSpooler:
    """A server of its own. Jobs queue behind a gate, so that submitting is not part of what is measured."""

    def __init__(self, place: Path, slots: int = 1) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self._place = place
        self._slots = slots
        self._gate = place / "gate"
        self._env = {**os.environ, "TS_SOCKET": str(place / "socket"), "TS_MAXCONN": "2000"}

    def tsp(self, *words: str) -> str:
        """A call."""
        return subprocess.run(
            ["tsp", *words], env=self._env, check=True, capture_output=True, text=True, timeout=600
        ).stdout.strip()

    def __enter__(self) -> TaskSpooler:
        os.mkfifo(self._gate)
        self.tsp("-S", str(self._slots))
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["tsp", "-K"], env=self._env, check=False, timeout=60)

    def close_gate(self) -> None:
        """Occupies every slot until :meth:`open_gate`."""
        for _ in range(self._slots):
            self.tsp("-n", "sh", "-c", f"read x < {self._gate}")

    def open_gate(self) -> None:
        """Lets go of the slots."""
        with self._gate.open("w") as gate:
            for _ in range(self._slots):
                gate.write("\n")
                gate.flush()

    def submit(self, argv: Sequence[str]) -> None:
        """Queues a job."""
        self.tsp("-n", *argv)

    def wait(self) -> None:
        """Return when nothing is queued or running."""
        self.tsp("-w")
        until(lambda: not any(word in self.tsp("-l") for word in (" queued ", " running ")), "the end of all")


@contextlib.contextmanager
def slurm(place: Path, slots: int = 1) -> Iterator[dict[str, str] | None]:
    """A cluster of this one machine with `slots` CPUs, tuned to start jobs as soon as it can
    (batch_sched_delay=0): the environment for its commands, or None when it does not come up."""
    place.mkdir(parents=True, exist_ok=True)
    for name in ("munge", "spool", "state"):
        (place / name).mkdir(mode=0o755)
    host = socket.gethostname().partition(".")[0]
    config = place / "slurm.conf"
    config.write_text(_CONFIG.format(place=place, host=host, slots=slots))
    key = place / "munge/key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    env = {**os.environ, "SLURM_CONF": str(config)}
    munge = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{name}={place / 'munge' / file}" for name, file in munge.items()]
    daemons = [
        subprocess.Popen([str(_which(program)), *more], env=env, stdout=log, stderr=log)
        for program, more in (
            ("munged", ["--foreground", "--force", *options]),
            ("slurmctld", ["-D", "-c"]),
            ("slurmd", ["-D"]),
        )
        if (log := (place / f"{program}.out").open("wb"))
        and (program == "munged" or until(lambda: (place / "munge/socket").exists(), "munge's socket"))
    ]
    try:

        def ready() -> bool:
            shown = subprocess.run(
                ["sinfo", "-h", "-o", "%t"], env=env, capture_output=True, text=True, check=False, timeout=60
            )
            return shown.stdout.strip() == "idle"

        yield env if patiently(ready, READY_S) else None
    finally:
        # a step outlives its slurmd, and would wait for it for ever
        patiently(lambda: not _slurm_jobs(env), END_S)
        for one in reversed(daemons):
            one.send_signal(signal.SIGTERM)
            one.wait(60)


def sbatch(env: dict[str, str], script: Path) -> None:
    """Submits a script."""
    subprocess.run(
        ["sbatch", "-o", "/dev/null", str(script)],
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )


def _slurm_jobs(env: dict[str, str]) -> str:
    """The jobs that Slurm has not done with; nothing when it does not answer."""
    asked = ["squeue", "-h", "-t", "all", "-O", "State"]
    found = subprocess.run(asked, env=env, capture_output=True, text=True, check=False, timeout=60)
    return " ".join(word for word in found.stdout.split() if word in ("PENDING", "RUNNING", "COMPLETING"))


def slurm_calls(env: dict[str, str], *words: str) -> str:
    """What a command of Slurm prints."""
    return subprocess.run(
        words, env=env, check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


RUNS_NO_JOBS = "Slurm is installed, but runs no jobs here"


def patiently(true: Callable[[], bool], seconds: float) -> bool:
    """Return True if `true()` becomes true within that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return False


_CONFIG = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge/socket
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
SlurmctldPort=36817
SlurmdPort=36818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=2000
NodeName={host} NodeAddr=127.0.0.1 CPUs={slots} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
