"""Real accounts for tests that run as root: made and removed by them."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Answer, Daemon, UnixConnection

NEEDS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("useradd") is None,
    reason="accounts are made by root alone, with useradd",
)
FIRST_UID = 42_000
TRIES = 200


class Person:
    """An account with a home that nobody else may enter."""

    def __init__(self, name: str) -> None:
        entry = pwd.getpwnam(name)
        self.name = name
        self.uid, self.gid, self.home = entry.pw_uid, entry.pw_gid, Path(entry.pw_dir)

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """This process as the person, to the kernel and to the peers of its sockets."""
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """A file of theirs in their home."""
        path = self.home / name
        with self.acting():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(mode)
        return path

    def run(self, *argv: str, groups: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
        """A command of theirs, outside of any job."""
        return subprocess.run(
            argv,
            user=self.uid,
            group=self.gid,
            extra_groups=list(groups),
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def request(self, daemon: Daemon, method: str, path: str, body: Any = None) -> Answer:
        """A request over the Unix socket."""
        connection = UnixConnection(daemon.socket)
        try:
            with self.acting():
                connection.connect()
            return daemon.over(connection, method, path, body)
        finally:
            connection.close()

    def submit(self, daemon: Daemon, *argv: str, **spec: Any) -> int:
        """The id of a new job of theirs."""
        answer = self.request(daemon, "POST", "/v1/jobs", {"argv": list(argv), **spec})
        assert answer.status == 201, answer.data
        return int(answer.json["id"])


def locked(*command: str) -> None:
    """Change the accounts; others may be doing so."""
    for _ in range(TRIES):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if "lock" not in done.stderr and "uid" not in done.stderr.lower():
            break
        time.sleep(0.05)  # nothing tells when another has let go of the lock
    raise AssertionError(f"{command}: {done.stderr}")


@contextlib.contextmanager
def people(*names: str, make: Callable[[str], None] = lambda _: None) -> Iterator[list[Person]]:
    """Accounts of these names, each with a number of its own behind it, and gone afterwards with all that
    they ran."""
    top = Path(tempfile.mkdtemp(prefix="lt-homes-"))
    top.chmod(0o755)
    made: list[str] = []
    try:
        for name in names:
            full = f"{name}{os.getpid()}"
            locked(
                "useradd", "-m", "-K", f"UID_MIN={FIRST_UID}", "-d", str(top / name), "-s", "/bin/sh", full
            )
            made.append(full)
            (top / name).chmod(0o700)
        yield [Person(name) for name in made]
    finally:
        for name in made:
            _end_all(pwd.getpwnam(name).pw_uid)
            locked("userdel", "-f", name)
        shutil.rmtree(top, ignore_errors=True)


def _end_all(uid: int) -> None:
    """Kill what an account still runs."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid:
                    os.kill(int(entry.name), signal.SIGKILL)


@contextlib.contextmanager
def multi_user_daemon(kind: type[Daemon] = Daemon, **env: str) -> Iterator[Daemon]:
    """A daemon that runs jobs as their submitters, in a place that all accounts reach."""
    top = Path(tempfile.mkdtemp(prefix="lt-mu-"))
    top.chmod(0o755)
    settings = {
        "LEPTOND_ACCOUNTS__MODE": "multi-user",
        "LEPTOND_QUEUE__CPU_SLOTS": "8",
        "LEPTOND_JOBS__GRACE_S": "2",
        **env,
    }
    one = kind(top / "state", "--simulate-gpus", "2", env=settings)
    one.start()
    try:
        yield one
    finally:
        one.close()
        shutil.rmtree(top, ignore_errors=True)
