"""Ranks that a launcher starts in warm processes cannot tell: each is run cold and warm, and what they see
and leave is compared. The launcher is called torchrun and starts its ranks as torchrun does."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.daemon import until
from tests.unit.engines.test_warm_pool import PYTHON, Bench

LAUNCHER = f"""\
#!{PYTHON}
import json, os, signal, subprocess, sys, time
sys.stdout.reconfigure(line_buffering=True)
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # ranks inherit what is ignored
signal.signal(signal.SIGUSR1, lambda *_: None)
times, redirect = int(sys.argv[1]), sys.argv[2] == "redirect"
for attempt in range(times):
    ranks = []
    for rank in range(2):
        env = dict(os.environ, RANK=str(rank), WORLD_SIZE="2", TORCHELASTIC_RUN_ID="x")
        env["LAUNCHER"] = str(os.getpid())
        out = open(f"rank{{rank}}.out", "w") if redirect else None
        call = [sys.executable, "-u", *sys.argv[3:]]
        ranks.append(subprocess.Popen(args=call, env=env, stdout=out, stderr=out, start_new_session=True))
    print("codes", [one.wait() for one in ranks])
if redirect:
    print([open(f"rank{{rank}}.out").read() for rank in range(2)])
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    one = Bench(tmp_path_factory.mktemp("ranks"))
    for name in ("torchrun", "other"):
        (one.jobs / name).write_text(LAUNCHER)
        (one.jobs / name).chmod(0o755)
    yield one
    one.daemon.close()


def ranks_of(bench: Bench) -> list[dict]:
    """What each rank has printed of itself, without its own number."""
    texts = [(bench.jobs / f"rank{n}.out").read_text().replace(f"rank{n}.out", "rank.out") for n in range(2)]
    return [json.loads(text.splitlines()[0]) for text in texts]


@pytest.mark.parametrize("call", [["facts.py", "a b"], ["-m", "facts"]], ids=["script", "module"])
def test_a_rank_sees_what_it_would_see_cold(bench, call):
    argv = ("./torchrun", "1", "redirect", *call)
    assert bench.run(*argv, cold=True)["exit_code"] == 0
    before = ranks_of(bench)
    found = []
    for _ in range(2):
        assert bench.warm(*argv)["exit_code"] == 0
        found += ranks_of(bench)
    for name, value in before[0]["same"].items():
        assert [one["same"][name] for one in found] == [value] * 4, name
    assert [one["different"]["warm"] for one in (*before, *found)] == [False] * 2 + [True] * 4
    for name in ("random", "tempname"):
        assert len({one["different"][name] for one in found}) == 4, name


WARM = "import gc; print('warm' if gc.get_freeze_count() > 1000 else 'cold', flush=True);"
"""The only thing that a process can tell by: what the imports made is frozen for the garbage collector.
Python 3.12 has a few hundred objects frozen in any process."""
ENDS = {
    "returns": "pass",
    "code": "import sys; sys.exit(3)",
    "raises": "def f(): 1/0\nf()",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "stopped": "import os; os.kill(os.getpid(), 15)",
    "hangup": "import os; os.kill(os.getpid(), 1)",
    "usr1": "import os; os.kill(os.getpid(), 10)",
    "interrupt": "import os; os.kill(os.getpid(), 2)",
    "parent": "import os; print(os.getppid() == int(os.environ['LAUNCHER']), os.getsid(0) == os.getpid())",
}


def test_ranks_end_as_they_would_cold(bench):
    for name, code in ENDS.items():
        bench.script(code, f"{name}.py")
        argv = ("./torchrun", "2", "redirect", f"{name}.py")
        cold, hot = bench.both(*argv)
        assert hot["output"] == cold["output"], name
        assert (hot["exit_code"], cold["exit_code"]) == (0, 0)


def test_ranks_of_each_round_are_warm(bench):
    bench.script(WARM, "warm.py")
    argv = ("./torchrun", "3", "redirect", "warm.py")
    cold, hot = bench.both(*argv)
    assert "'cold\\n', 'cold\\n'" in cold["output"]
    assert "'warm\\n', 'warm\\n'" in hot["output"]
    assert hot["output"].count("codes [0, 0]") == 3


DIFFERENT = {
    "another variable that is read unseen": "env['OMP_NUM_THREADS'] = '3'",
    "a variable that the imports have read": "env['NOTED_LEVEL'] = '3'",
    "an option of the interpreter": "call.insert(1, '-O')",
    "another interpreter": "call[0] = os.path.realpath(call[0])",
    "a descriptor that is passed on": "more['pass_fds'] = [os.dup(1)]",
    "a function before the exec": "more['preexec_fn'] = lambda: None",
    "another priority": "os.nice(1)",
}


def test_what_differs_is_spawned(bench):
    bench.script(WARM, "warm.py")
    for what, line in {"nothing": "pass", **DIFFERENT}.items():
        text = LAUNCHER.replace(
            "        ranks.app", f"        more = {{}}\n        {line}\n        ranks.app"
        )
        text = text.replace("start_new_session=True", "start_new_session=True, **more")
        (bench.jobs / "torchrun").write_text(text)
        hot = bench.warm("./torchrun", "1", "redirect", "warm.py")
        assert hot["exit_code"] == 0, (what, hot["output"])
        assert hot["output"].count("warm" if what == "nothing" else "cold") == 2, (what, hot["output"])
    (bench.jobs / "torchrun").write_text(LAUNCHER)


STOPPED = """
    import signal, sys, time
    signal.signal(15, lambda *_: sys.exit(9))
    sys.stdout.write("up\\n")  # in one piece: both ranks write to one pipe
    sys.stdout.flush()
    time.sleep(600)
"""


@pytest.mark.parametrize("passes_on", [True, False])
def test_a_stop_reaches_the_ranks(bench, passes_on):
    bench.script(STOPPED, "stop.py")
    handler = "signal.signal(15, lambda *_: [one.terminate() for one in ranks])\ntimes,"
    (bench.jobs / "torchrun").write_text(LAUNCHER.replace("times,", handler) if passes_on else LAUNCHER)
    bench.warm("./torchrun", "0", "show", "stop.py")
    found = []
    for cold in (True, False):
        spec = {
            "cwd": str(bench.jobs),
            "env": {"PYTHONPATH": str(bench.library)},
            "grace_s": 30,
            "cold": cold,
        }
        job = bench.daemon.submit("./torchrun", "1", "show", "stop.py", **spec)
        until(lambda job=job: bench.daemon.output(job).count("up") == 2, "both ranks")
        bench.daemon.post(f"/v1/jobs/{job}/cancel")
        attempt = bench.daemon.finished(job)["attempts"][-1]
        found.append([bench.daemon.output(job), attempt["exit_code"], attempt["signal"]])
        assert (attempt["start"] == "warm") != cold
    assert found[0] == found[1]
    assert ("codes [9, 9]" in found[0][0]) == passes_on
    (bench.jobs / "torchrun").write_text(LAUNCHER)


def test_a_launcher_leaves_nothing(bench):
    """The process that its ranks are forked from ends with it, and does not count as left behind."""
    (bench.jobs / "torchrun").write_text(f"#!{PYTHON}\nimport os, time; time.sleep(0.1); os._exit(0)\n")
    assert bench.warm("./torchrun")["evidence"] == ["exit code 0"]
    records = sorted(bench.place.glob("state/**/exit.json"), key=os.path.getmtime)
    assert json.loads(records[-1].read_text())["leftovers"] == 0
    (bench.jobs / "torchrun").write_text(LAUNCHER)


ENTRY = {
    "train.py": f"#!{PYTHON}\n",
    "noext": f"#! {PYTHON} -u\n",
    "by_env.py": "#!/usr/bin/env python3\n",
}


@pytest.mark.parametrize("name", ENTRY)
def test_a_script_with_python_in_its_first_line_starts_warm(bench, name):
    (bench.jobs / name).write_text(ENTRY[name] + (bench.library / "facts.py").read_text())
    (bench.jobs / name).chmod(0o755)
    path = f"{Path(PYTHON).parent}:{bench.jobs}:/usr/bin:/bin"
    for argv in ([f"./{name}", "a b"], [name, "--x"]):
        cold, hot = bench.both(*argv, env={"PATH": path})
        before, after = (json.loads(one["output"].splitlines()[0]) for one in (cold, hot))
        assert before["same"] == after["same"]
        assert (before["different"]["warm"], after["different"]["warm"]) == (False, True)


@pytest.mark.parametrize(
    ("first_line", "mode", "why"),
    [
        (f"#!{PYTHON} -O", 0o755, "its interpreter is given the option -O"),
        ("#!/bin/sh", 0o755, "its command is not a Python interpreter"),
        (f"#!{PYTHON}", 0o644, "./entry has changed, or may not be executed"),
    ],
)
def test_other_scripts_start_cold_and_say_why(bench, first_line, mode, why):
    bench.warm(PYTHON, "-c", "pass")
    (bench.jobs / "entry").write_text(f"{first_line}\n")
    (bench.jobs / "entry").chmod(mode)
    found = bench.run("./entry", requeue=False)
    assert found["start"] == f"cold: {why}"
    assert (found["state"] == "succeeded") == (mode == 0o755), found["output"]


TRAINING = """
    import gc, os, sys
    import torch
    from torch import distributed

    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS", "TORCHELASTIC_RESTART_COUNT")
    found = [os.environ[name] for name in names]
    if found[-1] == "0" and "restart" in sys.argv:
        sys.exit(3)
    distributed.init_process_group("gloo")
    total = torch.ones(1)
    distributed.all_reduce(total)
    sys.stderr.write(f"{found} {total.item()} {torch.get_num_threads()} {sys.argv[1:]}\\n")
    distributed.destroy_process_group()
    open(f"frozen{os.environ['RANK']}", "w").write(str(gc.get_freeze_count() > 1000))
"""


@pytest.mark.parametrize(
    "options",
    [
        ["--tee", "3"],
        pytest.param(["--max-restarts", "1", "--tee", "3"], marks=pytest.mark.slow),
        pytest.param(["--log-dir", "logs", "--redirects", "3", "--tee", "0:3"], marks=pytest.mark.slow),
    ],
    ids=["tee", "restart", "redirects"],
)
def test_torchrun(tmp_path, options):
    """Ranks of torchrun itself: two that meet, a restart of both, files of their output."""
    pytest.importorskip("torch")
    one = Bench(tmp_path, LEPTOND_ENGINE__WARM_IMPORTS='["torch"]')
    script = one.script(TRAINING)
    run = [PYTHON, "-m", "torch.distributed.run", "--nproc-per-node", "2", *options]
    words = ["restart"] if "--max-restarts" in options else ["--lr", "1"]
    found = []
    for attempt in one.both(*run, script, *words):
        assert attempt["state"] == "succeeded", attempt["output"]
        lines = sorted(line for line in attempt["output"].splitlines() if "['" in line)
        logs = sorted(path.read_text() for path in one.jobs.glob("logs/**/std*.log"))
        found.append((lines, logs))
        shutil.rmtree(one.jobs / "logs", ignore_errors=True)
    assert found[0] == found[1]
    assert len(found[0][0]) == (1 if "--redirects" in options else 2)
    assert [(one.jobs / f"frozen{rank}").read_text() for rank in range(2)] == ["True", "True"]
    one.daemon.close()
