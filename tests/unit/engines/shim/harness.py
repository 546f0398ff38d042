"""The shim alone, spoken to as the daemon speaks to it."""

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

from leptond.base import durable
from leptond.base.clock import kernel_boot_id
from leptond.engines.procs import tag_of

TOP = Path(__file__).parents[4]
SHIM = TOP / "leptond" / "engines" / "shim" / "__main__.py"


class Forked:
    """A shim that a zygote has forked, with the face of a Popen."""

    def __init__(self, pid: int, pidfd: int, shim: "Shim") -> None:
        self.pid, self.pidfd, self.shim = pid, pidfd, shim

    def wait(self, timeout: float) -> int:
        """0 when it has left its record: its status is the zygote's to see."""
        assert select.select([self.pidfd], [], [], timeout)[0]
        return 0 if (self.shim.directory / "exit.json").exists() else 1

    def send_signal(self, number: int) -> None:
        signal.pidfd_send_signal(self.pidfd, number)

    def __del__(self) -> None:
        os.close(self.pidfd)


class Zygote:
    """A zygote, spoken to as the daemon speaks to it."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(30)
        command = [sys.executable, "-I", "-S", "-X", "utf8", str(SHIM.parents[1] / "zygote.py")]
        with theirs:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno())], pass_fds=[theirs.fileno()], env={"PATH": "/usr/bin:/bin"}
            )
        assert json.loads(self.channel.recv(4096)) == {"ready": True}

    def ask(self, gate: int, launch: int, errors: int, name: str = "a1") -> None:
        body = {"id": 1, "env": {"LEPTOND_SHIM": name, "PATH": "/usr/bin:/bin"}}
        socket.send_fds(self.channel, [json.dumps(body).encode()], [gate, launch, errors])

    def fork(self, gate: int, launch: int, shim: "Shim") -> Forked:
        errors = os.open(os.devnull, os.O_WRONLY)
        self.ask(gate, launch, errors)
        os.close(errors)
        data, fds, _, _ = socket.recv_fds(self.channel, 4096, 1)
        return Forked(json.loads(data)["pid"], fds[0], shim)

    def close(self) -> None:
        self.channel.close()
        assert self.process.wait(30) == 0


class Shim:
    """A started shim and our end of its gate. Below `home` are its standby directory and its place."""

    zygote: Zygote | None = None

    def __init__(
        self, home: Path, argv: list[str], *, program=(str(SHIM),), cpus: list[int] | None = None, **more
    ) -> None:
        self.standby, self.place = home / "standby", home / "1" / "1"
        self.standby.mkdir(exist_ok=True)
        self.cpus = cpus or []
        launch = {
            "claim": {"job_id": 1},
            "attempt_id": "a1",
            "boot_id": kernel_boot_id(),
            "standby": str(self.standby),
            "directory": str(self.place),
            "argv": argv,
            "env": {"PATH": os.environ["PATH"]},
            "cwd": "/",
            "umask": 0o22,
            "cgroup": "",
            "tag": tag_of("a1" * 16),
            "time_limit_s": None,
            "grace_s": 1.0,
            "warn_signal": None,
            "warn_before_s": None,
            "linger_s": 0.2,
            "kill_timeout_s": 5.0,
            "log_max_bytes": 1 << 20,
            **more,
        }
        self.gate, theirs = socket.socketpair()
        self.gate.settimeout(30)
        memory = os.memfd_create("launch")
        os.write(memory, json.dumps(launch).encode())
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (theirs.fileno(), memory)]
        command = [sys.executable, "-c", MOVE.format(*high), sys.executable, "-I", "-S", *program]
        if self.zygote is not None and program == (str(SHIM),):
            self.process = self.zygote.fork(*high, self)
        else:
            self.process = subprocess.Popen(command, pass_fds=high, start_new_session=True)
        for fd in (*high, memory):
            os.close(fd)
        theirs.close()

    @property
    def directory(self) -> Path:
        return self.place if self.place.exists() else self.standby

    def go(self, env: dict[str, str] | None = None) -> None:
        told = {"env": env or {}, "cpus": self.cpus, "claim": {"gpus": []}}
        self.gate.sendall(b"GO " + json.dumps(told).encode() + b"\n")

    def line(self) -> str:
        data = b""
        while not data.endswith(b"\n"):
            part = self.gate.recv(1)
            if not part:
                return ""
            data += part
        return data.decode().strip()

    def end(self) -> dict:
        assert self.process.wait(60) == 0
        self.gate.close()
        return json.loads((self.directory / "exit.json").read_text())


# the shim expects its two descriptors at 3 and 4
MOVE = "import os, sys; os.dup2({}, 3); os.dup2({}, 4); os.execv(sys.argv[1], sys.argv[1:])"


def started(attempt: Path, script: str, **more) -> Shim:
    one = Shim(attempt, [sys.executable, "-c", script], **more)
    one.line()
    one.go()
    one.line()
    return one


def stop(one: Shim, grace_s: float) -> None:
    """As LocalEngine.stop."""
    wanted = {"attempt_id": "a1", "reason": "cancel", "grace_s": grace_s}
    durable.write_durably(str(one.directory), "stop.json", json.dumps(wanted))
    one.process.send_signal(signal.SIGUSR1)
