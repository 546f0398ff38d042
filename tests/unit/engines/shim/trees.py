"""Trees of wrappers around programs, made at random and stopped for real:
``python -m tests.unit.engines.shim.trees --trees 200``.

In each tree every program must hear the signal once and have the time that it needs to save; no script may go
on to its next line, and nothing may be left.
"""

from __future__ import annotations

import argparse
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from leptond.base import procfs
from leptond.engines.procs import tags
from leptond.engines.shim.stop_plan import SETTLED_S
from tests.unit.engines.shim.harness import Shim, stop

GRACE_S = 40.0
SAVE_S = 1.0
PYTHON = sys.executable

PROGRAM = """
import os, signal, subprocess, sys, threading, time
place, kind, save_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
def note(word):
    fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, (word + "\\n").encode())
    os.close(fd)
class Told(Exception): pass
told = []
def heard(*_):
    note("heard")
    told.append(1)
    if kind == "blocked": raise Told
signal.signal(signal.SIGTERM, heard)
if kind == "blocked":
    signal.signal(signal.SIGCONT, lambda *_: None)
if kind in ("blocked", "threads"):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
worker = 0
if kind == "worker":
    worker = os.fork()
    if worker == 0:
        signal.signal(signal.SIGTERM, lambda *_: note("worker told"))
        while os.getppid() != 1 and not os.path.exists(place + ".done"): time.sleep(.02)
        os._exit(0)
if kind == "helper":
    script = os.path.join(os.path.dirname(__file__), "helper.py")
    helper = subprocess.Popen([sys.executable, script, place])
if kind == "sigwait":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
note("up")
print("up", flush=True)
if kind == "sigwait":
    signal.sigwait([signal.SIGTERM])
    heard()
elif kind == "blocked":
    try: time.sleep(600)
    except Told: pass
else:
    while not told: time.sleep(.02)
end = time.monotonic() + save_s
while time.monotonic() < end:
    print("saving" + "." * 5000, flush=True)
    time.sleep(.02)
note("saved")
open(place + ".done", "w").close()
if worker: os.waitpid(worker, 0)
if kind == "helper": helper.kill()
sys.exit(int(sys.argv[4]))
"""

HELPER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: open(sys.argv[1], "a").write("worker told\\n"))
while True: time.sleep(.02)
"""
HEAD = "import os, signal, subprocess, sys, time\nfrom subprocess import Popen\n"
KINDS = ["polls", "blocked", "threads", "worker", "helper", "sigwait"]
LAUNCHERS = {
    "popen": "sys.exit(Popen(sys.argv[1:]).wait())",
    "capture": "sys.exit(subprocess.run(sys.argv[1:], capture_output=True).returncode)",
    "relay": """
p = Popen(sys.argv[1:], stdout=subprocess.PIPE)
for line in p.stdout: print(len(line), flush=True)
sys.exit(p.wait())""",
    "two steps": """
subprocess.call(sys.argv[1:])
open(sys.argv[0] + ".next", "w")""",
    "deaf": "signal.signal(15, lambda *_: None); sys.exit(Popen(sys.argv[1:]).wait())",
    "leaves": "signal.signal(15, lambda *_: sys.exit(3)); sys.exit(Popen(sys.argv[1:]).wait())",
    "forward": """
p = Popen(sys.argv[1:])
signal.signal(15, lambda *_: p.send_signal(15))
sys.exit(p.wait())""",
    "forward and go": """
p = Popen(sys.argv[1:])
def told(*_):
    p.send_signal(15)
    os._exit(3)
signal.signal(15, told)
sys.exit(p.wait())""",
    "poll and forward": """
p = Popen(sys.argv[1:])
signal.signal(15, lambda *_: p.send_signal(15))
while p.poll() is None: time.sleep(.02)
sys.exit(p.returncode & 127)""",
    "group": """
p = Popen(sys.argv[1:], start_new_session=True)
signal.signal(15, lambda *_: os.killpg(p.pid, 15))
sys.exit(p.wait())""",
    "impatient": """
p = Popen(sys.argv[1:])
def told(*_):
    p.send_signal(15)
    try: p.wait(.3)
    except subprocess.TimeoutExpired: p.kill()
signal.signal(15, told)
sys.exit(p.wait())""",
    "fork": """
child = os.fork()
if child == 0: os.execvp(sys.argv[1], sys.argv[1:])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 127)""",
    "ranks": """
p = Popen(sys.argv[1:], env={**os.environ, "RANK": "0"})
def told(*_):
    p.send_signal(15)
    time.sleep(.3)
    p.kill()
if "RANK" not in os.environ: signal.signal(15, told)
while p.poll() is None: time.sleep(.02)
sys.exit(p.returncode & 127)""",
    "daemon": """
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.set_inheritable(write, True)
        os.execvp(sys.argv[1], sys.argv[1:])
    os._exit(0)
os.wait()
os.close(write)
os.read(read, 1)""",
}


class Tree:
    """A command around programs, below `home`."""

    def __init__(self, seed: int, home: Path, kinds: list[str] | None = None) -> None:
        self.random = random.Random(seed)
        self.home = home
        self.programs: list[Path] = []
        self.workers = 0
        self.shape: list[str] = []
        self._numbers = iter(range(10_000))
        (home / "program.py").write_text(PROGRAM)
        (home / "helper.py").write_text(HELPER)
        for name, text in LAUNCHERS.items():
            (home / f"{name.replace(' ', '_')}.py").write_text(HEAD + text + "\n")
        self.command = self._wrapped(self.random.randint(1, 4), kinds)

    # -- parts -------------------------------------------------------------------------------------

    def _program(self) -> str:
        place = self.home / f"program.{next(self._numbers)}"
        self.programs.append(place)
        kind = self.random.choice(KINDS)
        code = self.random.choice([0, 0, 1, 75])
        self.shape.append(f"program({kind})")
        return shlex.join([PYTHON, str(self.home / "program.py"), str(place), kind, str(SAVE_S), str(code)])

    def _next(self) -> str:
        """A line that must not be run."""
        return f"touch {self.home}/next.{next(self._numbers)}"

    def _file(self, shell: str, text: str) -> str:
        path = self.home / f"script.{next(self._numbers)}"
        path.write_text(text + "\n")
        return f"{shell} {path}"

    def _shell(self) -> str:
        return self.random.choice([shell for shell in ("sh", "bash", "dash") if shutil.which(shell)])

    def _wrapped(self, depth: int, kinds: list[str] | None = None) -> str:
        if depth == 0:
            return self._program()
        kind = self.random.choice(kinds or sorted(WRAPPERS))
        if kind == "python daemon" and {"script(1)", "trap for the group"} & set(self.shape):
            kind = "env"  # the launcher ends at once, and its terminal, or its group, with it
        self.shape.append(kind)
        if kind == "two programs":
            return self._two(depth)
        return WRAPPERS[kind](self, self._wrapped(depth - 1, kinds))

    def _two(self, depth: int) -> str:
        one, two = self._wrapped(depth - 1), self._wrapped(self.random.randint(0, depth - 1))
        return self._file(self._shell(), f"{one} &\n{two} &\nwait\n{self._next()}")

    def __str__(self) -> str:
        return " > ".join(self.shape)


def _launch(name: str) -> Callable[[Tree, str], str]:
    return lambda tree, inner: f"{PYTHON} {tree.home}/{name.replace(' ', '_')}.py {inner}"


def _lines(text: str, shell: str = "") -> Callable[[Tree, str], str]:
    """A script; NEXT in `text` stands for a line that must not be run."""

    def make(tree: Tree, inner: str) -> str:
        lines = text.replace("CMD", inner).replace("NEXT", tree._next())
        lines = lines.replace("FILE", f"{tree.home}/file.{next(tree._numbers)}")
        return tree._file(shell or tree._shell(), lines)

    return make


WRAPPERS: dict[str, Callable[[Tree, str], str]] = {
    "script": _lines("CMD\nNEXT"),
    "script that ends with it": _lines("CMD"),
    "loop": _lines("for i in 1 2 3; do CMD; NEXT; done"),
    "and": _lines("CMD && NEXT\nNEXT"),
    "or": _lines("CMD || NEXT\nNEXT"),
    "if": _lines("if CMD; then NEXT; else NEXT; fi\nNEXT"),
    "function": _lines("f() { CMD; NEXT; }\nf\nNEXT"),
    "exec": _lines("exec CMD"),
    "subshell": _lines("(CMD; NEXT)\nNEXT"),
    "background": _lines("CMD & wait\nNEXT"),
    "background by number": _lines("CMD & P=$!\nwait $P\nNEXT"),
    "background subshell": _lines("(CMD; NEXT) & wait\nNEXT"),
    "sleep beside": _lines("sleep 600 & CMD\nNEXT"),
    "set -e": _lines("set -e\nCMD\nNEXT"),
    "exit trap": _lines("trap 'rm -f FILE' EXIT\nCMD\nNEXT", "bash"),
    "tee": _lines("CMD | tee FILE\nNEXT"),
    "tee of all": _lines("CMD 2>&1 | tee FILE | cat > FILE\nNEXT"),
    "reading loop": _lines("CMD | while read -r line; do echo ${#line}; done\nNEXT"),
    "reader with a next line": _lines("CMD | (cat > FILE; NEXT)\nNEXT"),
    "substitution": _lines("X=$(CMD)\nNEXT"),
    "backquotes": _lines("echo `CMD`\nNEXT"),
    "process substitution": _lines("CMD > >(cat > FILE)\nNEXT", "bash"),
    "output redirected to tee": _lines("exec > >(tee FILE) 2>&1\nCMD\nNEXT", "bash"),
    "trap that forwards": _lines("trap 'kill -TERM $P' TERM\nCMD & P=$!\nwait $P"),
    "trap that forwards and waits": _lines("trap 'kill -TERM $P; wait $P; exit 3' TERM\nCMD & P=$!\nwait $P"),
    "trap that forwards and goes": _lines("trap 'kill -TERM $P; exit 3' TERM\nCMD & P=$!\nwait $P\nNEXT"),
    "trap for the group": _lines("trap 'trap - TERM; kill -TERM 0; exit 3' TERM\nCMD & wait\nNEXT"),
    "trap": _lines("trap 'echo trapped > FILE; exit 3' TERM\nCMD\nNEXT"),
    "trap beside": _lines("trap 'echo trapped > FILE; exit 3' TERM\nCMD & wait\nNEXT"),
    "env": lambda tree, inner: f"env A=1 {inner}",
    "nohup": lambda tree, inner: f"nohup {inner}",
    "nice": lambda tree, inner: f"nice {inner}",
    "timeout": lambda tree, inner: f"timeout 600 {inner}",
    "timeout with a kill": lambda tree, inner: f"timeout -k 1 600 {inner}",
    "setsid": lambda tree, inner: f"setsid -w {inner}",
    "flock": lambda tree, inner: f"flock {tree.home}/lock.{next(tree._numbers)} {inner}",
    "xargs": lambda tree, inner: tree._file("sh", f"echo {shlex.quote(inner)} | xargs env\n{tree._next()}"),
    "make": lambda tree, inner: (
        f"make -s -f {_makefile(tree, inner)}" if shutil.which("make") else f"env A=1 {inner}"
    ),
    "script(1)": lambda tree, inner: (
        f"script -qec {shlex.quote(inner)} /dev/null" if shutil.which("script") else f"env A=1 {inner}"
    ),
    "sh -c": lambda tree, inner: f"sh -c {shlex.quote(inner)}",
    "bash -c with more": lambda tree, inner: f"bash -c {shlex.quote(f'{inner}; {tree._next()}')}",
    **{f"python {name}": _launch(name) for name in LAUNCHERS},
    "two programs": lambda tree, inner: inner,
}


def _makefile(tree: Tree, inner: str) -> str:
    path = tree.home / f"makefile.{next(tree._numbers)}"
    path.write_text(f"all:\n\t{inner.replace('$', '$$')}\n\t{tree._next()}\n")
    return str(path)


def faults_of(tree: Tree, until_s: float = 20.0) -> list[str]:
    """Start the tree under a shim of its own, stop it, and return what was not as it has to be."""
    home = tree.home / "attempt"
    home.mkdir()
    tag = random.getrandbits(59)
    one = Shim(
        home,
        shlex.split(tree.command),
        cwd=str(tree.home),
        tag=1 << 61 | tag,
        grace_s=GRACE_S,
        linger_s=1.0,
        kill_timeout_s=10.0,
    )
    one.line()
    one.go()
    one.line()
    end = time.monotonic() + until_s
    while not all(place.exists() and "up" in place.read_text() for place in tree.programs):
        if time.monotonic() > end or one.process.poll() is not None:
            stop(one, 0.0)
            one.end()
            return [f"did not start: {(one.directory / 'output.log').read_text()[-500:]}"]
        time.sleep(0.02)
    time.sleep(2 * SETTLED_S)  # a pipe's reader has been there for a while
    began = time.monotonic()
    stop(one, GRACE_S)
    record = one.end()
    faults = []
    for place in tree.programs:
        words = place.read_text().split("\n")
        if words.count("heard") != 1:
            faults.append(f"heard it {words.count('heard')} times")
        if "saved" not in words:
            faults.append("did not save")
        if "worker told" in words:
            faults.append("a worker was told")
    if record["killed"]:
        faults.append(f"killed after {time.monotonic() - began:.1f} s")
    faults += [f"went on: {path.name}" for path in sorted(tree.home.glob("*next*"))]
    left = [pid for pid, found in tags().items() if f"{tag:015x}" == found]
    faults += [f"left: {(procfs.read_file(pid, 'cmdline') or b'').decode()}" for pid in left]
    errors = one.directory / "shim.log"
    if errors.exists() and errors.read_text():
        faults.append(errors.read_text()[-2000:])
    return faults


def faults_of_seed(seed: int, kinds: list[str] | None = None) -> tuple[str, list[str]]:
    """Make a tree, stop it, and return how it looked and what was wrong."""
    with tempfile.TemporaryDirectory(prefix="stop-") as home:
        tree = Tree(seed, Path(home), kinds)
        return str(tree), faults_of(tree)


def main() -> int:
    """Run a campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--kinds", default="", help="only these wrappers, separated by commas")
    given = parser.parse_args()
    kinds = given.kinds.split(",") if given.kinds else None
    wrong = 0
    seeds = range(given.first, given.first + given.trees)
    with ThreadPoolExecutor(given.jobs) as pool:
        for seed, (shape, faults) in zip(
            seeds, pool.map(lambda seed: faults_of_seed(seed, kinds), seeds), strict=True
        ):
            wrong += bool(faults)
            if faults:
                print(f"{seed}: {shape}: {'; '.join(faults)}", flush=True)
    print(f"{given.trees} trees, {wrong} with faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
