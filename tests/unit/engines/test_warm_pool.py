"""A job that starts warm cannot tell: each is run cold and warm, and what it sees and leaves is compared."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import pytest

from leptond.attempt_files import layout
from leptond.core import warm_start
from tests.support.daemon import Daemon, gone, parent_of, until

PYTHON = os.environ.get("LEPTOND_TEST_PYTHON", sys.executable)
"""The interpreter of the jobs; the daemon's may be another."""
HERE = Path(__file__).parent
ENGINE = HERE.parents[2] / "leptond" / "engines"
IMPORTS = ["noted", "json", "logging", "multiprocessing", "tempfile", "random"]


class Bench:
    """A daemon with warm starts, and a directory of jobs that import `noted`."""

    def __init__(self, place: Path, **env: str) -> None:
        self.place = place
        self.library = place / "library"
        shutil.copytree(HERE / "warm_jobs", self.library)
        (self.library / "__pycache__").mkdir(exist_ok=True)
        self.jobs = place / "jobs"
        self.jobs.mkdir()
        (self.jobs / "facts.py").symlink_to(self.library / "facts.py")
        settings = {"LEPTOND_ENGINE__WARM": "true", "LEPTOND_ENGINE__WARM_IMPORTS": json.dumps(IMPORTS)}
        self.daemon = Daemon(place / "state", "--simulate-gpus", "1", env={**settings, **env}).start()

    def run(self, *argv: str, env: dict[str, str] | None = None, **spec) -> dict:
        """The attempt of a job, with its output."""
        daemon = self.daemon
        whole = {"PYTHONPATH": str(self.library), **(env or {})}
        job = daemon.submit(*argv, cwd=str(self.jobs), env=whole, **spec)
        ended = daemon.finished(job)
        return {**ended["attempts"][-1], "state": ended["state"], "output": daemon.output(job)}

    def warm(self, *argv: str, **spec) -> dict:
        """The same, once it starts warm."""

        def one() -> dict | None:
            found = self.run(*argv, **spec)
            return found if found["start"] == "warm" else None

        return until(one, "a warm start")

    def both(self, *argv: str, **spec) -> tuple[dict, dict]:
        """The attempt of a cold and that of a warm start."""
        cold = self.run(*argv, cold=True, **spec)
        assert cold["start"] == "cold: the job asked for it"
        return cold, self.warm(*argv, **spec)

    def script(self, text: str, name: str = "job.py") -> str:
        (self.jobs / name).write_text(textwrap.dedent(text))
        return name

    def zygote(self) -> int:
        """The pid of the warm process."""
        pid = self.daemon.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"noted" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        return 0


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    one = Bench(tmp_path_factory.mktemp("warm"))
    yield one
    one.daemon.close()


@pytest.mark.parametrize(
    "call",
    [
        ["facts.py", "a b", "--x"],
        ["-m", "facts", "y"],
        ["-c", (HERE / "warm_jobs" / "facts.py").read_text(), "z"],
    ],
    ids=["script", "module", "code"],
)
def test_it_sees_what_it_would_see_cold(bench, call):
    cold, hot = bench.both(PYTHON, *call)
    assert (cold["exit_code"], hot["exit_code"]) == (0, 0), hot["output"]
    first, second = (one["output"].split("\n", 1) for one in (cold, hot))
    assert first[1] == second[1] == "thread\natexit\n"
    before, after = json.loads(first[0]), json.loads(second[0])
    for name, value in before["same"].items():
        assert after["same"][name] == value, name
    again = json.loads(bench.warm(PYTHON, *call)["output"].split("\n")[0])
    for name in ("random", "tempname", "attempt"):
        assert len({one["different"][name] for one in (before, after, again)}) == 3, name
    assert after["different"]["started"]


ENDS = {
    "returns": "print('done')",
    "exit": "import sys; sys.exit()",
    "exit_code": "import sys; sys.exit(41)",
    "exit_word": "import sys; sys.exit('because')",
    "exit_late": "import atexit, os; atexit.register(lambda: os._exit(9))",
    "raises": "def inner():\n    {}['x']\n\ntry:\n    inner()\nexcept KeyError:\n    raise ValueError('no')",
    "group": "raise ExceptionGroup('two', [ValueError(1), TypeError(2)])",
    "hook": "import sys\nsys.excepthook = lambda kind, _, t: print(kind, t.tb_frame.f_code.co_name)\n1/0",
    "syntax": "def broken(:\n    pass",
    "encoding": "# -*- coding: latin-1 -*-\nprint('\\u00e9', __doc__)",
    "hard": "import os; os._exit(5)",
    "interrupt": "raise KeyboardInterrupt",
    "segfault": "import os; os.kill(os.getpid(), 11)",
    "usr1": "import os; os.kill(os.getpid(), 10)",
    "pipe": "import os\nr, w = os.pipe()\nos.close(r)\nos.write(w, b'x')",
    "thread": "import threading\nt = threading.Thread(target=lambda: 1/0, name='t')\nt.start()\nt.join()",
    "unflushed": "import sys\nsys.stdout.write('half a line')",
    "annotations": "x: int = 1\nprint(__annotations__)",
    "globals": "print(__name__, __spec__, __builtins__, __cached__)",
    "child": "import subprocess, sys\nshow = [sys.executable, '-c', 'import sys; print(sys.path[1:])']\n"
    "print(subprocess.run(show, capture_output=True, text=True))",
}


@pytest.mark.parametrize("name", ENDS)
def test_it_ends_as_it_would_cold(bench, name):
    script = bench.script(ENDS[name])
    cold, hot = bench.both(PYTHON, script, requeue=False)
    for field in ("state", "exit_code", "signal", "class", "output"):
        assert hot[field] == cold[field], field


POOL = """
    import multiprocessing, os, sys

    def double(x):
        return x * 2, os.path.basename(sys.argv[0]), __name__, multiprocessing.current_process().name[:12]

    if __name__ == "__main__":
        for method in ("fork", "spawn", "forkserver"):
            with multiprocessing.get_context(method).Pool(1) as pool:
                print(method, pool.map(double, [1, 2]), flush=True)
"""


@pytest.mark.parametrize("call", [["pool.py"], ["-m", "pool"]], ids=["script", "module"])
def test_its_workers_start_by_every_method(bench, call):
    bench.script(POOL, "pool.py")
    cold, hot = bench.both(PYTHON, *call)
    assert cold["exit_code"] == 0, cold["output"]
    assert hot["output"] == cold["output"]


def test_a_limit_and_a_stop_reach_it(bench):
    script = bench.script("import time; print('up', flush=True); time.sleep(600)")
    cold, hot = bench.both(PYTHON, script, time_limit_s=1.0, grace_s=5)
    assert (hot["state"], hot["signal"], hot["output"]) == (cold["state"], cold["signal"], "up\n")
    assert hot["signal"] == "SIGTERM"


def test_it_outlives_the_daemon_and_the_warm_process(bench):
    script = bench.script("import os, sys; print('up', flush=True); open('fifo').read(); sys.exit(7)")
    os.mkfifo(bench.jobs / "fifo")
    bench.warm(PYTHON, "-c", "pass")
    daemon = bench.daemon
    job = daemon.submit(PYTHON, script, cwd=str(bench.jobs), env={"PYTHONPATH": str(bench.library)})
    daemon.printed(job, "up")
    zygote = bench.zygote()
    shim = parent_of(daemon.pid(job))
    assert parent_of(shim) == zygote
    assert [fd for fd in Path(f"/proc/{shim}/fd").iterdir() if fd.readlink() == zygote] == []
    daemon.kill()
    assert gone(zygote)
    daemon.start()
    (bench.jobs / "fifo").write_text("")
    ended = daemon.finished(job)
    assert (ended["state"], ended["exit_code"], ended["attempts"][0]["start"]) == ("failed", 7, "warm")


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"NOTED_LEVEL": "9"}, "NOTED_LEVEL is read by its imports and was different for the warm process"),
        ({"NOTES_COLOUR": "1"}, "NOTES_* is read by its imports and was different for the warm process"),
        ({"LD_PRELOAD": "/nothing.so"}, "LD_PRELOAD is set"),
        ({"PYTHONINSPECT": ""}, "PYTHONINSPECT is set"),
        ({"PYTHONPATH": "library"}, "PYTHONPATH has a relative part"),
    ],
)
def test_another_environment_starts_cold_and_says_why(bench, env, why):
    bench.warm(PYTHON, "-c", "pass")
    assert bench.run(PYTHON, "-c", "pass", env=env)["start"] == f"cold: {why}"


def test_a_module_beside_the_script_that_would_come_first_is_used(bench):
    beside = bench.jobs / "beside"
    beside.mkdir()
    (beside / "noted.py").write_text("LEVEL = 'beside'\n")
    (beside / "it.py").write_text("import noted; print(noted.LEVEL)\n")
    bench.warm(PYTHON, "-c", "pass")
    found = bench.run(PYTHON, "beside/it.py")
    assert found["output"] == "beside\n"
    assert found["start"] == f"cold: {beside}/noted.py hides a module that was imported before"


def test_a_package_that_was_changed_is_imported_anew(bench):
    call = (PYTHON, "-c", "import noted; print(noted.__dict__.get('NEW', 0))")
    assert bench.warm(*call)["output"] == "0\n"
    file = bench.library / "noted.py"
    file.write_text(file.read_text() + "\nNEW = 1\n")
    found = bench.run(*call)
    assert (found["output"], found["start"]) == ("1\n", f"cold: {warm_start.CHANGED}: {file}")
    assert bench.warm(*call)["output"] == "1\n"


def test_a_warm_process_that_hangs_hurts_no_job(bench):
    bench.warm(PYTHON, "-c", "pass")
    zygote = bench.zygote()
    os.kill(zygote, signal.SIGSTOP)
    assert bench.run(PYTHON, "-c", "print('ran')")["start"] == "warm", "by one that was forked before"
    for spare in Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split():
        os.kill(int(spare), signal.SIGKILL)
    found = bench.run(PYTHON, "-c", "print('ran')")
    assert (found["output"], found["start"]) == ("ran\n", f"cold: {warm_start.NO_ANSWER}")
    assert gone(zygote)


def test_one_that_nobody_uses_ends(tmp_path):
    one = Bench(tmp_path, LEPTOND_ENGINE__WARM_IDLE_S="1")
    one.run(PYTHON, "-c", "pass")
    zygote = until(one.zygote, "a warm process")
    assert gone(zygote)
    one.daemon.close()


BAD = {
    "its imports print something": "print('hello')",
    "its imports start threads, which a fork would lose": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
    "its imports keep files open": "import os\nheld = os.open('/dev/null', 0)",
    "its imports change how the process takes signals, or where it is": "import signal\n"
    "signal.signal(signal.SIGTERM, lambda *_: None)",
    "its imports fail: ValueError: no": "raise ValueError('no')",
    "bad looks at the whole environment when it is imported": "import os\nALL = dict(os.environ)",
    "it has none of absent": "",
}


@pytest.mark.parametrize("why", BAD)
def test_imports_that_cannot_be_kept_are_refused(tmp_path, why):
    (tmp_path / "bad.py").write_text(BAD[why])
    code = (
        "import os, sys; sys.path[:0] = sys.argv[1:3]\n"
        "import zygote; [imports] = zygote.load('engines.warm_imports', keep_bytecode=False)\n"
        "out, saved = os.pipe(), os.dup(1); os.dup2(out[1], 1); os.close(out[1])\n"
        "found = imports.prepare([sys.argv[3]], out[0], {}); sys.stdout.flush()\n"
        "os.write(saved, repr(found).encode()); os._exit(0)"
    )
    module = "absent" if "absent" in why else "bad"
    command = [PYTHON, "-u", "-c", code, str(ENGINE), str(tmp_path), module]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == repr({"refused": why}), done.stderr


def test_training_with_torch(tmp_path):
    pytest.importorskip("torch")
    one = Bench(tmp_path, LEPTOND_ENGINE__WARM_IMPORTS='["torch"]')
    script = one.script(
        """
        import json, os, random
        import torch
        from torch.utils.data import DataLoader, TensorDataset

        if __name__ == "__main__":
            torch.manual_seed(1)
            model = torch.nn.Linear(4, 1)
            data = TensorDataset(torch.rand(16, 4), torch.rand(16, 1))
            for workers in (0, 2):
                loader = DataLoader(data, batch_size=4, num_workers=workers)
                loss = sum(torch.nn.functional.mse_loss(model(x), y) for x, y in loader)
                loss.backward()
                print(workers, f"{loss.item():.6f}", torch.get_num_threads(), torch.cuda.is_initialized())
        """
    )
    cold, hot = one.both(PYTHON, script)
    assert cold["exit_code"] == 0, cold["output"]
    assert hot["output"] == cold["output"]
    later = (
        "import sys; print('torch' in sys.modules, sorted(sys.modules) == [], 'torch._dynamo' in sys.modules)"
    )
    assert one.warm(PYTHON, "-c", later)["output"] == "True False True\n", "what a first step loads is there"
    seed = (PYTHON, "-c", "import torch, numpy; print(torch.initial_seed(), numpy.random.random())")
    first, second = (one.warm(*seed)["output"].split() for _ in range(2))
    assert (first[0] == second[0], first[1] == second[1]) == (False, False)
    one.daemon.close()


class Learning:
    """An environment of its own, whose package `first` is imported before all jobs, and a daemon."""

    def __init__(self, place: Path, **env: str) -> None:
        venv.create(place / "env", symlinks=True)
        self.python = str(place / "env" / "bin" / "python")
        [self.site] = (place / "env" / "lib").glob("python*/site-packages")
        self.add("first", "")
        self.jobs = place / "jobs"
        self.jobs.mkdir()
        settings = {"LEPTOND_ENGINE__WARM": "true", "LEPTOND_ENGINE__WARM_IMPORTS": '["first"]', **env}
        self.daemon = Daemon(place / "state", "--simulate-gpus", "1", env=settings).start()

    def add(self, name: str, text: str) -> None:
        (self.site / f"{name}.py").write_text(text)

    def run(self, code: str, **spec) -> dict:
        job = self.daemon.submit(self.python, "-c", code, cwd=str(self.jobs), **spec)
        ended = self.daemon.finished(job)
        return {**ended["attempts"][-1], "output": self.daemon.output(job)}

    def learned(self) -> dict:
        """What is on disk about the interpreter."""
        files = list((self.daemon.state_dir / "warm").glob("*.json"))
        return json.loads(files[0].read_text()) if files else {}

    def has(self, name: str) -> bool:
        """Whether the present warm process has tried a package."""
        return self.learned().get("packages", {}).get(name, {}).get("why") is not None


def test_what_jobs_import_is_learned(tmp_path):
    """The job reads a variable and is looked at while it runs. A later one gets the package from the warm
    process, which is seen by the process id that it has kept; what is unsafe is not kept."""
    one = Learning(tmp_path)
    one.add(
        "useful",
        "import os\n\ndef pid():\n    return os.getpid()\n\nPID = pid()\nMODE = os.environ.get('MODE')",
    )
    one.add("unsafe", "import threading, time, os\nPID = os.getpid()\n"
            "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()")  # fmt: skip
    until(lambda: one.run("pass")["start"] == "warm" or None, "a warm start")
    code = "import useful, unsafe, time, own; time.sleep(1.5); print(useful.PID)"
    (one.jobs / "own.py").write_text("")
    one.run(code)
    until(lambda: one.has("useful") or None, "it is learned")
    packages = one.learned()["packages"]
    assert (packages["useful"]["why"], "starts a thread" in packages["unsafe"]["why"]) == ("", True)
    assert "own" not in packages, "the job's own directory has it"
    [shown] = one.daemon.get("/v1/warm-environments").json["items"]
    assert (shown["python"], "useful" in shown["learned"]) == (one.python, True)
    assert "starts a thread" in shown["left_out"]["unsafe"]
    seen = "import os, sys; print('useful' in sys.modules); import useful; print(useful.PID == os.getpid())"

    def from_it() -> bool | None:
        found = one.run(seen)
        assert found["output"].startswith("False"), "a job sees it when it imports it"
        return found["output"] == "False\nFalse\n" or None

    until(from_it, "a job gets it from the warm process")
    other = one.run(seen, env={"MODE": "2"})
    assert other["output"] == "False\nTrue\n", "one that would have read another value imports it itself"
    (one.jobs / "useful.py").write_text("PID = 0\n")
    beside = one.run("import useful; print(useful.PID)")
    assert (beside["output"], beside["start"]) == (
        "0\n",
        f"cold: not as learned: {one.jobs}/useful.py hides useful, which was imported before",
    )
    until(lambda: one.run("import useful; print(useful.PID)")["start"] == "warm" or None, "by a bare process")
    # a daemon that starts anew knows it all
    one.daemon.kill()
    (one.jobs / "useful.py").unlink()
    one.daemon.start()
    until(from_it, "its first warm process has it")
    one.daemon.close()


def test_what_waits_is_prepared_anew_when_a_warm_process_is_ready(tmp_path):
    """A job that is on standby before there is a warm process starts warm in the end."""
    one = Learning(tmp_path)
    daemon = one.daemon
    os.mkfifo(one.jobs / "fifo")
    first = daemon.submit(
        one.python, "-c", "print('up', flush=True); open('fifo').read()", cwd=str(one.jobs), gpus=1
    )
    second = daemon.submit(one.python, "-c", "pass", cwd=str(one.jobs), gpus=1)
    daemon.printed(first, "up")
    until(lambda: "warm_process.ready" in daemon.log.read_text() or None, "a warm process")
    pid = daemon.process.pid

    def warm_standby() -> bool | None:
        """Whether a process of a command waits that was forked from the warm process, and no other."""
        if len(list((daemon.state_dir / layout.JOBS_DIR / layout.STANDBY_DIR).iterdir())) != 1:
            return None
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"first" in Path(f"/proc/{child}/cmdline").read_bytes():
                shims = Path(f"/proc/{child}/task/{child}/children").read_text().split()
                return any(Path(f"/proc/{s}/task/{s}/children").read_text() for s in shims) or None
        return None

    until(warm_standby, "it is prepared anew")
    (one.jobs / "fifo").write_text("")
    assert daemon.finished(first)["state"] == "succeeded"
    assert daemon.finished(second)["attempts"][0]["start"] == "warm"
    daemon.close()
