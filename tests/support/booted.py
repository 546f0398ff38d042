"""A real systemd for tests: process 1 of namespaces of its own, on this machine's files below an overlay in
memory. What is installed here is there; nothing that is written there stays."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

TOP = Path(__file__).parents[2]
PROGRAMS = ("systemd-nspawn", "nsenter", "systemd-run", "dbus-daemon")
SYSTEMD = "/lib/systemd/systemd"
UP_S = 90.0
"""Seconds that a start, or an answer, may take on a busy machine."""

INIT = f'for d in /sys/fs/cgroup/*/; do mount -o remount,bind,rw $d 2>/dev/null; done; exec {SYSTEMD} "$@"'
"""nspawn mounts the controllers of cgroup v1 read-only, and systemd then ignores limits without a word: a
shell is process 1 first, opens them and becomes systemd."""

PROGRAM = """#!/bin/sh
PYTHONPATH=/opt/leptond/lib exec /opt/python/bin/python -m leptond "$@"
"""


def why_not() -> str | None:
    """Why none can be booted here; None if it may be tried."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or not Path(SYSTEMD).exists():
        return f"no {', '.join(missing or [SYSTEMD])} (Debian: apt install systemd-container dbus)"
    if os.geteuid() != 0:
        return "only root boots a systemd"
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    return "mounts are not allowed here" if done.returncode else None


class BootFailed(Exception):
    """The machine does not let one boot; the message is what nspawn said."""


class Booted:
    """One that runs. `scratch`: a directory for what it mounts. `unified`: cgroup v2 alone; otherwise as the
    machine has it. `shared`: a directory that both sides see, at the same path."""

    def __init__(self, scratch: Path, shared: Path, *, unified: bool) -> None:
        self._scratch = scratch
        self.shared = shared
        self._name = f"box{uuid.uuid4().hex[:8]}"
        self._cgroups: list[Path] = []
        self._mounts: list[Path] = []
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._unified = unified
        self.pid = 0
        self.root = scratch / "root"
        self.console = scratch / "console"

    # -- its life ----------------------------------------------------------------------------------

    def boot(self) -> Booted:
        """Boots it, and waits until systemctl answers. Raises BootFailed; nothing is left then."""
        try:
            self._mount()
            self._start()
            self._wait()
        except (OSError, subprocess.SubprocessError, BootFailed) as failure:
            said = self.console.read_text(errors="replace")[-2000:] if self.console.exists() else ""
            self.shut_down()
            raise BootFailed(f"{failure}\n{said}") from None
        return self

    def _mount(self) -> None:
        lower, upper = self._scratch / "lower", self._scratch / "upper"
        for place in (lower, upper, self.root):
            place.mkdir(parents=True)
        self._mount_at(lower, "--bind", "/")
        self._run("mount", "--make-private", str(lower))
        self._mount_at(upper, "-t", "tmpfs", "-o", "size=1g,mode=755", "box")
        (upper / "files").mkdir()
        (upper / "work").mkdir()
        layers = f"lowerdir={lower},upperdir={upper / 'files'},workdir={upper / 'work'}"
        self._mount_at(self.root, "-t", "overlay", "-o", layers, "box")
        (self.root / "etc/machine-id").unlink(missing_ok=True)
        (self.root / "etc/machine-id").touch()
        (self.root / "etc/hostname").unlink(missing_ok=True)
        # the interpreter of the tests may be in a home that is closed to others
        base = self.root / Path(os.path.realpath(sys.executable)).relative_to("/")
        for above in base.parents:
            if above != self.root and above.is_relative_to(self.root):
                above.chmod(above.stat().st_mode | 0o011)

    def _mount_at(self, place: Path, *arguments: str) -> None:
        self._run("mount", *arguments, str(place))
        self._mounts.append(place)

    @staticmethod
    def _run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def _start(self) -> None:
        """Starts nspawn in cgroups of its own, so that what boots takes over none of the machine's."""
        self._cgroups = [place / self._name for place in own_cgroups()]
        for place in self._cgroups:
            place.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (place / name).exists() and not (place / name).read_text().strip():
                    (place / name).write_text((place.parent / name).read_text())
        command = [
            *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network"),
            *(f"--machine={self._name}", "--link-journal=no", "--console=pipe", "--resolv-conf=off"),
            *("--timezone=off", "--kill-signal=RTMIN+4", "--system-call-filter=bpf @keyring"),
            *("--setenv=container=box", f"--bind={self.shared}", f"--bind-ro={sys.prefix}:/opt/python"),
            *("--capability=CAP_SYSLOG", "-D", str(self.root), "/bin/bash", "-c", INIT, "init"),
            *("systemd.unit=basic.target", "systemd.log_target=console"),
        ]
        enter = 'for d in $CGROUPS; do echo $$ > $d/cgroup.procs; done; exec "$@"'
        with self.console.open("wb") as console:
            self._nspawn = subprocess.Popen(
                ["/bin/bash", "-c", enter, "enter", *command],
                env={
                    "PATH": os.environ["PATH"],
                    "CGROUPS": " ".join(map(str, self._cgroups)),
                    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1" if self._unified else "0",
                },
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    def _wait(self) -> None:
        assert self._nspawn is not None
        deadline = time.monotonic() + UP_S
        while time.monotonic() < deadline:
            if self._nspawn.poll() is not None:
                raise BootFailed(f"systemd-nspawn ended with {self._nspawn.returncode}")
            if not self.pid:
                self.pid = self._find()
            elif self.call("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                return
            time.sleep(0.1)  # nothing says when: it has no notification socket of ours
        raise BootFailed("it does not come up")

    def _find(self) -> int:
        assert self._nspawn is not None
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        for pid in map(int, children.read_text().split()):
            if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                return pid
        return 0

    def shut_down(self) -> None:
        """Ends it, and takes away all that it had."""
        if self._nspawn is not None:
            self._end(self._nspawn)
        for place in reversed(self._mounts):
            subprocess.run(["umount", "-l", str(place)], check=False, stderr=subprocess.DEVNULL)
        for top in self._cgroups:
            for place, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(place).rmdir()

    def _end(self, nspawn: subprocess.Popen[bytes]) -> None:
        # as process 1 of a PID namespace it takes all of its processes with it
        for pid, number in ((self.pid, signal.SIGRTMIN + 4), (self.pid, signal.SIGKILL)):
            if nspawn.poll() is None and pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    nspawn.wait(20)
        if nspawn.poll() is None:
            nspawn.kill()
            nspawn.wait(20)

    # -- what is done in it ------------------------------------------------------------------------

    def call(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command in it, as root."""
        enter = ["nsenter", "-t", str(self.pid), *["-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w"]]
        clean = ["env", "-i", f"PATH={os.environ['PATH']}", "TERM=dumb", "HOME=/root", "LANG=C.UTF-8"]
        return subprocess.run(
            [*enter, *clean, *command],
            input=text,
            capture_output=True,
            text=True,
            timeout=UP_S,
            check=False,
        )

    def run(self, *command: str, text: str | None = None) -> str:
        """Runs a command that has to succeed; what it said."""
        done = self.call(*command, text=text)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Writes a file of its."""
        self.run(
            "sh", "-c", f'mkdir -p "$(dirname {path})" && cat > {path} && chmod {mode:o} {path}', text=text
        )

    def show(self, unit: str, *names: str) -> list[str]:
        """Properties of a unit, in the order of `names`."""
        lines = self.run("systemctl", "show", unit, *(f"-p{name}" for name in names)).splitlines()
        values = dict(line.partition("=")[::2] for line in lines)
        return [values.get(name, "") for name in names]

    def install(
        self,
        unit: str,
        *,
        overrides: Sequence[str] = (),
        config: str = "",
        code: str = "a",
        tight: bool = False,
    ) -> None:
        """Installs this checkout as docs/operations.md says it, with a unit of `systemd/`; `overrides` are
        lines of a drop-in, `code` names the copy that it runs from; `tight`: with the jobs in a unit of
        their own."""
        self.put_code(code)
        self.write("/opt/leptond/bin/leptond", PROGRAM, 0o755)
        self.write("/opt/leptond/bin/leptonctl", PROGRAM.replace("-m leptond", "-m leptond.cli"), 0o755)
        self.write("/etc/sysusers.d/leptond.conf", (TOP / "systemd/leptond.sysusers").read_text())
        self.run("systemd-sysusers")
        self.write("/etc/tmpfiles.d/leptond.conf", (TOP / "systemd/leptond.tmpfiles").read_text())
        self.run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/leptond.conf")
        self.write("/etc/leptond/config.toml", config)
        jobs = (TOP / "systemd/leptond-jobs.service").read_text()
        self.write("/etc/systemd/system/leptond-jobs.service", jobs)
        if tight:
            drop_in = (TOP / "systemd/leptond-tight.conf").read_text()
            self.write("/etc/systemd/system/leptond.service.d/tight.conf", drop_in)
        self.write("/etc/systemd/system/leptond.service", (TOP / "systemd" / unit).read_text())
        self.write("/etc/systemd/system/leptond.socket", (TOP / "systemd/leptond.socket").read_text())
        lines = ["[Service]", *overrides]
        self.write("/etc/systemd/system/leptond.service.d/test.conf", "\n".join(lines) + "\n")
        self.run("systemctl", "daemon-reload")

    def put_code(self, name: str, version: str | None = None) -> None:
        """Copies the checkout to a directory of its own, which is what runs from then on."""
        place = self.root / f"opt/leptond/{name}"
        if not place.exists():
            for tree in ("leptond", "migrations", "systemd"):
                shutil.copytree(TOP / tree, place / tree, ignore=shutil.ignore_patterns("__pycache__"))
        if version is not None:
            init = place / "leptond/__init__.py"
            init.write_text(re.sub(r"(?m)^__version__ = .*", f'__version__ = "{version}"', init.read_text()))
        self.run("ln", "-sfn", f"/opt/leptond/{name}", "/opt/leptond/lib")


def own_cgroups() -> list[Path]:
    """The directories of this process's cgroups, one a hierarchy."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        name = controllers.removeprefix("name=")
        top = Path("/sys/fs/cgroup")
        if name:
            top /= name
        elif (top / "unified").is_dir():
            top /= "unified"
        if top.is_dir():
            found.append(top / path.lstrip("/"))
    return found
