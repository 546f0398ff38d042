"""Jobs that will not die: programs that do what daemons, launchers, broken scripts and the spiteful do. A
cancel, a limit or their own end must leave nothing of them behind.

Every job is run through `LEASH`, which sets a limit of the process (RLIMIT_MSGQUEUE) to a number of its own
before it executes the program. All descendants inherit it, so that a test finds them by evidence that is not
leptond's: not by cookie, session, parents or cgroup.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LEASH = """
import os, resource, sys
number = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_MSGQUEUE, (number, resource.getrlimit(resource.RLIMIT_MSGQUEUE)[1]))
os.execvp(sys.argv[2], sys.argv[2:])
""".replace("resource.RLIMIT_MSGQUEUE", "12")  # Python does not name it everywhere
_LINE = b"\nMax msgqueue size "


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A hostile program: Python source, or C source. It creates the file in its first argument when it is
    up. `ends` says that it ends by itself, with `state`. `root`: needs root."""

    name: str
    source: str
    language: str = "python"
    ends: bool = False
    state: str = "succeeded"
    root: bool = False

    def command(self, ready: Path, build: Path) -> list[str]:
        """Its command line; C is compiled into `build`."""
        if self.language == "python":
            return [sys.executable, "-I", "-S", "-c", PROLOGUE + self.source, str(ready)]
        return [str(compiled(self, build)), str(ready)]

    def missing(self) -> str:
        """Why it cannot be tried on this machine; empty when it can."""
        if self.language == "c" and shutil.which("gcc") is None:
            return "no C compiler"
        if self.root and os.geteuid() != 0:
            return "needs root"
        return ""


PROLOGUE = """
import os, signal, sys, time
def up():
    open(sys.argv[1], "w").close()
def rest():
    while True:
        time.sleep(600)
def deaf():
    signal.signal(15, signal.SIG_IGN)
"""


def compiled(kind: Kind, build: Path) -> Path:
    """The program of a kind that is written in C."""
    program = build / kind.name
    if not program.exists():
        build.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["gcc", "-O1", "-w", "-pthread", "-x", "c", "-", "-o", str(program)],
            input=(C_PROLOGUE + kind.source).encode(),
            check=True,
            capture_output=True,
            timeout=120,
        )
    return program


C_PROLOGUE = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static char **args;
static void up(void) { close(open(args[1], O_WRONLY | O_CREAT, 0644)); }
static void rest(void) { for (;;) pause(); }
static void deaf(void) { signal(SIGTERM, SIG_IGN); }
static void job(void);
int main(int argc, char **argv) { args = argv; job(); return 0; }
"""


@cache
def kinds() -> dict[str, Kind]:
    """All of them by name."""
    from tests.faults.zoo import c_kinds, python_kinds

    found = [*python_kinds.KINDS, *c_kinds.KINDS]
    assert len({kind.name for kind in found}) == len(found)
    return {kind.name: kind for kind in found}


def on_leash(number: int, command: list[str]) -> list[str]:
    """`command` as a job whose processes :func:`leashed` finds."""
    return [sys.executable, "-I", "-S", "-c", LEASH, str(number), *command]


def leashed(numbers: set[int]) -> tuple[dict[int, int], dict[int, int]]:
    """Pid and number of the processes on one of these leashes: those that live, and zombies."""
    alive: dict[int, int] = {}
    zombies: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            limits = Path(f"/proc/{entry.name}/limits").read_bytes()
            fields = Path(f"/proc/{entry.name}/stat").read_bytes().rpartition(b") ")[2].split()
        except OSError:
            continue
        soft = limits.partition(_LINE)[2].split(maxsplit=1)[:1]
        if soft and soft[0].isdigit() and int(soft[0]) in numbers:
            # a main thread that has ended looks like a zombie while its other threads live
            gone = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
            (zombies if gone else alive)[int(entry.name)] = int(soft[0])
    return alive, zombies
