"""What an end is judged to be, and the sentence about it, from real programs."""

# ruff: noqa: E501

import json
import subprocess
import sys

import pytest

from tests.support.daemon import Daemon

PYTHON = sys.executable


def leptonctl(daemon, *words):
    return subprocess.run(
        [PYTHON, "-m", "leptond.cli", "--host", f"unix://{daemon.socket}", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


SURVIVED = """
import os, sys, time, traceback
if os.environ["LEPTOND_ATTEMPT"] == "2": sys.exit(0)
print("CUDA out of memory: halving the batch", flush=True)
try:
    import no_such_module_here
except ImportError:
    traceback.print_exc()
raise ConnectionResetError("peer")
"""


def test_what_the_job_survived_does_not_end_its_retries(shared_daemon):
    done = shared_daemon.finished(shared_daemon.submit(PYTHON, "-c", SURVIVED, retries=2, retry_delay_s=0.01))
    first = done["attempts"][0]
    assert (done["state"], first["class"]) == ("succeeded", "user")
    assert first["explanation"] == "failed with exit code 1: ConnectionResetError: peer"
    assert first["evidence"][-1].startswith("earlier in its output: ModuleNotFoundError")


ENDS = {
    "an address": (
        [PYTHON, "-c", "import socket as s; a = s.create_server(('127.0.0.1', 0)); s.socket().bind(a.getsockname())"],
        "user",
        "failed with exit code 1: OSError: [Errno 98] Address already in use",
    ),
    "a misspelt script": (
        [PYTHON, "trian.py"],
        "config",
        "can't open file '{cwd}/trian.py': [Errno 2] No such file or directory (exit code 2)",
    ),
    "arguments": (
        [PYTHON, "-c", "import argparse; argparse.ArgumentParser(prog='t').parse_args(['--x'])"],
        "config",
        "t: error: unrecognized arguments: --x (exit code 2)",
    ),
    "a lost GPU by its own word": (
        ["sh", "-c", "echo 'GPU has fallen off the bus'; exit 3"],
        "user",
        "failed with exit code 3: GPU has fallen off the bus (the driver reports no fault of its GPUs)",
    ),
    "a secret": (
        [PYTHON, "-c", "import os; raise SystemExit('fatal: bad key ' + os.environ['HUB_KEY'])"],
        "user",
        "failed with exit code 1: fatal: bad key ***",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_the_error_line_is_the_sentence_everywhere(shared_daemon, name, tmp_path):
    argv, cause, sentence = ENDS[name]
    env = {"HUB_KEY": "0123456789abcdef"}
    job = shared_daemon.submit(*argv, retries=0, cwd=str(tmp_path), env=env, gpus=1 if "GPU" in name else 0)
    done = shared_daemon.finished(job)
    expected = sentence.format(cwd=tmp_path)
    assert (done["class"], done["attempt"]) == (cause, 1)
    assert done["explanation"].endswith(expected)
    assert done["explanation"] in shared_daemon.get(f"/v1/jobs/{job}/why").json["sentence"]
    listed = shared_daemon.get("/v1/jobs?limit=1").json["items"][0]
    assert listed["explanation"] == done["explanation"]


def test_the_command_line_tells_the_error_line(shared_daemon):
    job = shared_daemon.submit("sh", "-c", "echo 'fatal: no room for x' >&2; exit 4", name="noroom")
    shared_daemon.finished(job)
    line = "failed with exit code 4: fatal: no room for x"
    for words in (["history"], ["show", str(job)], ["why", str(job)]):
        assert line in leptonctl(shared_daemon, *words).stdout
    waited = leptonctl(shared_daemon, "wait", str(job))
    assert (waited.returncode, f"job {job} (noroom) {line}" in waited.stderr) == (4, True)


def test_a_killed_child_of_a_shell_is_no_fault_of_the_job(shared_daemon):
    script = f"{PYTHON} -c 'import os; os.kill(os.getpid(), 9)'; exit $?"
    spec = {"retries": 0, "retry_delay_s": 0.01}
    done = shared_daemon.finished(shared_daemon.submit("sh", "-c", script, **spec))
    assert [one["class"] for one in done["attempts"]] == ["external-kill"] * 4
    assert done["explanation"] == "a process of the job was ended by SIGKILL, which leptond did not send"


def test_a_gpu_that_the_driver_gives_up_costs_the_job_no_retry(tmp_path):
    state = tmp_path / "gpus.json"
    settings = {"LEPTOND_GPUS__STATE_FILE": str(state), "LEPTOND_GPUS__SAMPLE_S": "3600"}
    one = Daemon(tmp_path / "state", "--simulate-gpus", "2", env=settings)
    one.start()
    try:
        lost = json.dumps({"devices": {"0": {"error": "GPU is lost"}}})
        script = (
            f"[ $LEPTOND_ATTEMPT = 2 ] || {{ echo '{lost}' > {state};"
            " echo 'CUDA error: uncorrectable ECC error encountered'; exit 1; }"
        )
        done = one.finished(one.submit("sh", "-c", script, gpus=1, retry_delay_s=0.01))
        first = done["attempts"][0]
        assert (done["state"], first["class"], first["rule"]) == ("succeeded", "infra-gpu", "driver")
        assert "GPU is lost" in first["evidence"][0]
    finally:
        one.close()
