"""Doctor's checks of this machine beside the daemon: configuration, unit, file systems, limits, torch. The
system's own files are read below a root, so that a test can plant a fault elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leptond.base.paths import home
from leptond.cli.diagnosis.finding import FAIL, OK, WARN, Finding
from leptond.client.target import Target
from leptond.core.jobs.timespec import format_size

MIN_PYTHON = (3, 11)
LOW_DISK_BYTES = 5 << 30
FULL_DISK_BYTES = 512 << 20
NETWORK_DISKS = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "lustre", "glusterfs", "beegfs")
SMALL_SHM_BYTES = 1 << 30
FEW_FILES = 4096
OLD_BACKUP_S = 3 * 86400.0
TORCH_S = 60.0


def configuration(places: tuple[str, ...] = ()) -> Finding:
    """Check that the daemon accepts its configuration: a process of its own reads it."""
    words = [sys.executable, "-m", "leptond", "check-config", *places]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(WARN, "configuration", f"it could not be checked: {error}")
    if done.returncode:
        message = done.stderr.strip().removeprefix("leptond: ")
        return Finding(FAIL, "configuration", message, "mend it; the daemon does not start with it")
    return Finding(OK, "configuration", done.stdout.partition("\n")[0].removeprefix("# "))


def program(own: Path, path: str | None) -> Finding:
    """Check that `leptond` on the PATH is that of this installation."""
    found = shutil.which("leptond", path=path)
    mine = own.parent / "leptond"
    if found is None:
        return Finding(OK, "program", f"{mine} (not on the PATH)")
    if mine.exists() and not Path(found).samefile(mine):
        return Finding(
            WARN,
            "program",
            f"leptond on the PATH is {found}, of another installation than this leptonctl ({own.parent})",
            "put one of them first on the PATH, or remove it",
        )
    return Finding(OK, "program", found)


def unit(files: tuple[Path, ...]) -> Iterator[Finding]:
    """Check that the programs that the installed units start exist."""
    for file in files:
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        started = re.search(r"^ExecStart=\s*[-@:+!]*(\S+)", text, re.MULTILINE)
        if started is not None and not os.access(started[1], os.X_OK):
            yield Finding(
                FAIL,
                "unit",
                f"{file} starts {started[1]}, which is not there",
                "run leptonctl init --force of the leptond that is to run, and then systemctl daemon-reload",
            )
        else:
            yield Finding(OK, "unit", str(file))


def group(
    socket: str | None, user: str, groups: frozenset[int], members: Mapping[str, tuple[int, list[str]]]
) -> Iterator[Finding]:
    """Check that this session has the account's membership in the queue's group; `members` are groups as the
    system has them, by name."""
    known = members.get("leptond")
    if socket is None or known is None or not str(socket).startswith("/run/leptond/"):
        return
    number, names = known
    if user in names and number not in groups:
        yield Finding(
            FAIL,
            "group",
            f"{user} is in the group leptond, but this session began before",
            "log out and in again, or: newgrp leptond",
        )


def network_disk(directory: Path, root: Path = Path("/")) -> Finding:
    """Check that the queue's database is on a disk of this machine: SQLite's locks and log need that."""
    kind, mount = _mount_of(directory, root)
    if kind in NETWORK_DISKS:
        return Finding(
            FAIL,
            "file system",
            f"{directory} is on {kind} ({mount}): SQLite's locks cannot be relied on there",
            "run leptond with --state-dir on a disk of this machine",
        )
    return Finding(OK, "file system", f"{kind or 'unknown'} at {mount}")


def _mount_of(directory: Path, root: Path) -> tuple[str, str]:
    """The kind and the place of the mount that a directory is on."""
    best = ("", "/")
    try:
        lines = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return best
    for line in lines:
        fields, _, rest = line.partition(" - ")
        place = fields.split()[4].encode().decode("unicode_escape")
        if directory.is_relative_to(place) and len(place) >= len(best[1]):
            best = (rest.split()[0], place)
    return best


def shared_memory(total_bytes: int | None) -> Finding:
    """Check that shared memory has room for the batches of data loaders' workers."""
    if total_bytes is None:
        return Finding(WARN, "shared memory", "there is no /dev/shm", "mount a tmpfs at /dev/shm")
    detail = f"/dev/shm has {format_size(total_bytes)}"
    fix = (
        "mount -o remount,size=8G /dev/shm; in a container: --shm-size=8g. Data loaders die of it (bus error)"
    )
    return Finding(WARN if total_bytes < SMALL_SHM_BYTES else OK, "shared memory", detail, fix)


def open_files(pid: int | None, root: Path = Path("/")) -> Iterator[Finding]:
    """Check that the daemon, and so its jobs, may open enough files."""
    try:
        text = (root / f"proc/{pid}/limits").read_text()
    except OSError:
        return
    found = re.search(r"^Max open files\s+\S+\s+(\d+)", text, re.MULTILINE)
    if found is not None:
        few = int(found[1]) < FEW_FILES
        fix = "start the daemon under systemd (LimitNOFILE), or after: ulimit -Hn 131072"
        yield Finding(WARN if few else OK, "open files", f"the daemon and its jobs may open {found[1]}", fix)


def temporary(environ: Mapping[str, str]) -> Finding:
    """Check that jobs can make temporary files."""
    place = Path(environ.get("TMPDIR") or "/tmp")
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding(WARN, "temporary files", f"{place} cannot be written", "make it, or unset TMPDIR")
    return Finding(OK, "temporary files", str(place))


def out_of_service(status: Mapping[str, Any]) -> Iterator[Finding]:
    """GPUs that take no jobs, each with the reason."""
    for gpu in status["gpus"]:
        if not gpu["schedulable"]:
            fix = f"when it is well again: leptonctl undrain {gpu['index']}" if gpu["drained"] else None
            yield Finding(WARN, f"GPU {gpu['index']}", gpu.get("why_not") or "it takes no jobs", fix)


def simulated(status: Mapping[str, Any], root: Path = Path("/")) -> Iterator[Finding]:
    """Simulated GPUs on a machine that has real ones."""
    if any(gpu["simulated"] for gpu in status["gpus"]) and (root / "proc/driver/nvidia/version").exists():
        yield Finding(
            WARN,
            "simulated",
            "the GPUs are simulated, but this machine has a driver for real ones",
            "start leptond without --simulate-gpus, and take gpus.simulate out of its configuration",
        )


def backups(database: Mapping[str, Any], started: datetime, now: datetime) -> Finding:
    """Check that there is a recent copy of the database; a daemon that has just been installed has time."""
    taken = [datetime.fromisoformat(one["taken_at"]) for one in database["backups"]]
    fix = "leptonctl db backup takes one now; storage.backup_every_s says how often the daemon does"
    if not taken:
        young = (now - started).total_seconds() < OLD_BACKUP_S
        return Finding(OK if young else WARN, "backup", "there is none yet", fix)
    age_s = (now.astimezone(UTC) - max(taken)).total_seconds()
    level = WARN if age_s > OLD_BACKUP_S else OK
    return Finding(level, "backup", f"the newest is {age_s / 3600:.0f} h old", fix)


def torch(python: str | None) -> Iterator[Finding]:
    """Check that the torch of the PATH's interpreter sees the daemon's GPUs. It is imported in a process of
    its own."""
    if python is None:
        return
    script = "import torch; print(torch.__version__, torch.version.cuda, torch.cuda.is_available())"
    try:
        done = subprocess.run(
            [python, "-c", script], capture_output=True, text=True, timeout=TORCH_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding(WARN, "torch", f"{python}: {error}")
        return
    if done.returncode:
        if "No module named 'torch'" not in done.stderr:
            lines = done.stderr.strip().splitlines()
            yield Finding(WARN, "torch", f"{python}: {lines[-1] if lines else 'it cannot be imported'}")
        return
    version, cuda, sees = done.stdout.split()
    if sees == "True":
        yield Finding(OK, "torch", f"{version} with CUDA {cuda} ({python})")
    else:
        why = "it is a build without CUDA" if cuda == "None" else f"its CUDA {cuda} does not fit the driver"
        fix = "install the torch for this driver: https://pytorch.org/get-started/locally"
        yield Finding(WARN, "torch", f"{version} of {python} sees no GPU: {why}", fix)


def python() -> Finding:
    """Check the version of this interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < MIN_PYTHON:
        return Finding(FAIL, "python", f"{version} is too old", "install leptond under Python 3.11 or newer")
    return Finding(OK, "python", f"{version} ({sys.executable})")


def sqlite_version() -> tuple[int, int, int]:
    """The version of SQLite that this interpreter has."""
    import sqlite3

    return sqlite3.sqlite_version_info


def sqlite(version: tuple[int, int, int]) -> Finding:
    """Check this SQLite for the WAL-reset fault (3.7.0 to 3.51.2; fixed in 3.51.3, 3.50.7 and 3.44.6:
    sqlite.org/wal.html). leptond writes through one connection, which keeps clear of it."""
    text = ".".join(map(str, version))
    mended = (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45) or version >= (3, 51, 3)
    if mended or version < (3, 7):
        return Finding(OK, "sqlite", text)
    return Finding(
        WARN,
        "sqlite",
        f"{text} can lose commits when two programs write the same database",
        "open the queue's database with nothing but leptond while it runs, or use SQLite 3.51.3 or newer",
    )


def state_dir(target: Target, status: dict[str, Any] | None) -> Path:
    """The daemon's state directory, as far as it is known here."""
    jobs = [*status["running"], *status["failed_recently"], *status["next"]] if status else []
    if jobs:
        return Path(jobs[0]["checkpoint_dir"]).parent.parent
    system = status["mode"] == "system" if status else str(target.path).startswith("/run/leptond/")
    if system:
        return Path("/var/lib/leptond")
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else home() / ".local/state") / "leptond"


def disk(directory: Path) -> Finding:
    """Check that the disk of the state directory has room."""
    import shutil

    place = next((p for p in (directory, *directory.parents) if p.is_dir()), Path("/"))
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding(WARN, "disk", f"{place}: {error.strerror}")
    detail = f"{format_size(free)} free at {place}"
    fix = "make room: leptonctl history shows old jobs, whose output and checkpoints are there"
    level = FAIL if free < FULL_DISK_BYTES else WARN if free < LOW_DISK_BYTES else OK
    return Finding(level, "disk", detail, fix)


def driver(status: dict[str, Any] | None, root: Path = Path("/")) -> Finding:
    """Check that the NVIDIA driver's files are there, and that the daemon sees the GPUs that they name."""
    version_file, device_file = root / "proc/driver/nvidia/version", root / "dev/nvidiactl"
    loaded, device = version_file.exists(), device_file.exists()
    seen = [gpu for gpu in status["gpus"] if gpu["present"] and not gpu["simulated"]] if status else None
    if not loaded and not device:
        if seen:
            return Finding(OK, "nvidia", f"no driver here; the daemon sees {len(seen)} GPUs")
        fix = "to try leptond without GPUs: leptond run --simulate-gpus 4"
        return Finding(OK, "nvidia", "no driver is loaded; jobs run without GPUs", fix)
    if loaded != device:
        have, lack = ("/proc/driver/nvidia", "/dev/nvidiactl")[:: 1 if loaded else -1]
        fix = "run nvidia-smi as root once (it makes the device files), or install the driver again"
        return Finding(FAIL, "nvidia", f"{have} is there, {lack} is not", fix)
    version = _first_line(version_file)
    if not os.access(device_file, os.R_OK | os.W_OK):
        fix = "this account (and the daemon's) needs access to /dev/nvidia*: often the group video or render"
        return Finding(FAIL, "nvidia", "/dev/nvidiactl may not be used by this account", fix)
    if seen is None:
        return Finding(OK, "nvidia", version)
    if not seen:
        note = (status or {}).get("gpu_note") or f"backend {(status or {}).get('gpu_backend')}"
        fix = "set gpus.backend to auto, and look at what nvidia-smi says"
        return Finding(FAIL, "nvidia", f"the driver is loaded, but the daemon sees no GPU ({note})", fix)
    return Finding(OK, "nvidia", f"{len(seen)} GPUs; {version}")


def _first_line(file: Path) -> str:
    try:
        return file.read_text(errors="replace").partition("\n")[0].strip()
    except OSError as error:
        return f"{file}: {error.strerror}"


def systemd(target: Target) -> Iterator[Finding]:
    """Check that a user's daemon outlives the session."""
    if not Path("/run/systemd/system").is_dir():
        yield Finding(OK, "systemd", "it does not run here; start the daemon with: leptond run")
        return
    if str(target.path).startswith("/run/leptond/") or target.path is None:
        return
    import pwd

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return
    if Path("/var/lib/systemd/linger", user).exists():
        yield Finding(OK, "linger", f"on for {user}: the daemon outlives your session")
    else:
        yield Finding(
            WARN,
            "linger",
            f"off for {user}: a daemon under systemctl --user, and its jobs, end when you log out",
            f"run: loginctl enable-linger {user}",
        )


def cgroup(status: dict[str, Any] | None) -> Finding:
    """Check that the daemon can contain jobs in cgroups of its own."""
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return Finding(
            WARN,
            "cgroup",
            "there is no cgroup v2; jobs are contained by their process tree, and their memory by cgroup v1"
            " where the daemon is root's, else by looks at their processes",
            "boot with systemd.unified_cgroup_hierarchy=1 for a kill that nothing escapes",
        )
    pid = status["pid"] if status else None
    place = _cgroup_of(pid) if pid is not None else None
    if place is None:
        return Finding(OK, "cgroup", "v2")
    if place.name == "daemon" and _is_delegated(place.parent):
        return Finding(OK, "cgroup", f"v2, delegated to the daemon ({place.parent}), with limits of memory")
    if _is_delegated(place):
        return Finding(
            OK,
            "cgroup",
            f"v2, delegated to the daemon ({place}); memory is bounded by looks at the jobs' processes",
            "with systemd 254 or newer, DelegateSubgroup=daemon in the unit has the kernel bound it",
        )
    return Finding(
        WARN,
        "cgroup",
        "v2, but none is delegated to the daemon; jobs are contained by their process tree",
        "run it as a systemd service with Delegate=yes (systemd/leptond.service)",
    )


def _cgroup_of(pid: int) -> Path | None:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    relative = next((line[3:] for line in lines if line.startswith("0::")), None)
    return None if relative is None else Path("/sys/fs/cgroup") / relative.lstrip("/")


def _is_delegated(place: Path) -> bool:
    """systemd marks what it delegates with an extended attribute."""
    for name in ("trusted.delegate", "user.delegate"):
        try:
            if os.getxattr(place, name) == b"1":
                return True
        except OSError:
            continue
    return False
