"""Functions as jobs of the real daemon. Those that a test defines inside itself travel by value, as a
notebook's do."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ALL_COMPLETED, CancelledError, ThreadPoolExecutor, as_completed, wait
from pathlib import Path

import pytest

from leptond import Client, JobFailed, LeptonExecutor, call
from leptond.client import executor
from leptond.client.call_result import RemoteError, outcome
from leptond.client.errors import ApiError
from leptond.client.target import Unreachable
from leptond.core.jobs.model import State
from leptond.core.scheduling.run_time import command_kind
from tests.support.daemon import PATIENCE_S, Daemon, until

BASE = str(Path(sys.base_prefix) / "bin" / "python3")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory) -> Iterator[Daemon]:
    one = Daemon(tmp_path_factory.mktemp("executor") / "state", "--simulate-gpus", "2")
    one.env["LEPTOND_QUEUE__CPU_SLOTS"] = "6"
    one.start()
    yield one
    one.close()


@pytest.fixture
def lept(daemon, tmp_path) -> Iterator[LeptonExecutor]:
    one = LeptonExecutor(f"unix://{daemon.socket}", folder=tmp_path / "calls", cwd=str(tmp_path))
    yield one
    one.shutdown(wait=False, cancel_futures=True)


def holding(begun: str, go: str) -> str:
    """Says that it has begun, and waits for `go`."""
    import pathlib
    import time

    pathlib.Path(begun).touch()
    while not pathlib.Path(go).exists():
        time.sleep(0.02)
    return "went"


def by_value(fn):
    """`fn` as if this were a notebook."""
    import types

    return types.FunctionType(
        fn.__code__, {"__builtins__": __builtins__, "__name__": "__main__"}, fn.__name__
    )


hold = by_value(holding)


def test_a_call_is_a_job_and_its_value_comes_back(lept, tmp_path):
    def where(what, *, times):
        print("hello from", Path.cwd())
        return [what * times, os.environ["CUDA_VISIBLE_DEVICES"], os.environ["WITH"]]

    future = lept.with_options(gpus=1, env={"WITH": "it"}, name="here").submit(where, "ab", times=2)
    twice, devices, variable = future.result(PATIENCE_S)
    assert (twice, variable, bool(devices)) == ("abab", "it", True)
    assert future.logs() == f"hello from {tmp_path}\n"
    assert (future.job.name, future.job.gpus, future.job.state) == ("here", 1, State.SUCCEEDED)
    assert Path(future.path).name == "where-1.call"
    assert future.done()
    assert not future.running()
    assert not future.cancel()
    assert not future.cancelled()


def test_what_the_function_raises_is_raised_here_with_its_traceback(lept):
    def deeper():
        raise KeyError("not there")

    def fails():
        deeper()

    future = lept.submit(fails)
    with pytest.raises(KeyError, match="not there") as raised:
        future.result(PATIENCE_S)
    assert "KeyError: 'not there'" in str(raised.value.__cause__)
    assert "in deeper" in str(raised.value.__cause__)
    assert "leptond/call.py" not in str(raised.value.__cause__)
    assert f"job {future.job_id} (fails), attempt 1; class user" in raised.value.__notes__


def test_ends_without_a_value_say_what_happened(lept, tmp_path):
    def leaves():
        print("so long")
        os._exit(3)

    def leaves_well():
        raise SystemExit(0)

    def is_killed():
        os.kill(os.getpid(), signal.SIGSEGV)

    def returns_a_lock():
        return threading.Lock()

    class Odd(Exception):
        def __reduce__(self):
            raise TypeError("not me")

    def raises_oddly():
        raise Odd("strange")

    def too_long():
        time.sleep(600)

    def eats_its_result():
        def torn(path):
            def write(*_, **__):
                Path(path).write_bytes(b"torn")

            return write

        sys.modules["__main__"].write = torn(call.result_path(sys.argv[1], os.environ["LEPTOND_JOB_ID"]))

    short = lept.with_options(time_limit_s=0.5, grace_s=0)
    futures = {
        fn.__name__: one.submit(fn)
        for one, fn in [
            (short, too_long),
            (lept, leaves),
            (lept, leaves_well),
            (lept, is_killed),
            (lept, returns_a_lock),
            (lept, raises_oddly),
            (lept, eats_its_result),
        ]
    }
    foreign = lept.with_options(python=BASE).submit(os.getpid)
    errors = {name: future.exception(PATIENCE_S) for name, future in futures.items()}
    error = errors["leaves"]
    assert isinstance(error, JobFailed)
    assert "exit code 3; class user" in str(error)
    assert error.tail == "so long"
    assert (error.job.exit_code, error.job.state) == (3, State.FAILED)
    assert "ended well and left no value" in str(errors["leaves_well"])
    assert "SIGSEGV; class signal" in str(errors["is_killed"])
    assert isinstance(errors["returns_a_lock"], TypeError)
    assert "return plain data" in str(errors["returns_a_lock"].__notes__)
    assert isinstance(errors["raises_oddly"], RemoteError)
    assert "Odd: strange" in str(errors["raises_oddly"])
    assert "timed out" in str(errors["too_long"])
    assert errors["too_long"].job.state is State.TIMED_OUT
    assert "its end is missing" in str(errors["eats_its_result"])
    assert f"-m pip install {Path(__file__).parents[2]}" in str(foreign.exception(PATIENCE_S))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.job.id) == (str(error), error.job.id)


def test_the_librarys_own_wait_and_as_completed(lept):
    futures = [lept.submit(divmod, number, 3) for number in range(4)]
    assert {future.result() for future in as_completed(futures, PATIENCE_S)} == {
        divmod(number, 3) for number in range(4)
    }
    waiting = lept.with_options(hold=True).submit(os.getpid)
    done, others = wait([*futures, waiting], 0, return_when=ALL_COMPLETED)
    assert (done, others) == (set(futures), {waiting})
    assert waiting.cancel()
    assert waiting.cancel()
    assert wait([waiting], 0).done == {waiting}


def test_a_map_of_two_hundred(lept):
    values = lept.map(pow, range(200), [2] * 200, chunksize=20, timeout=PATIENCE_S)
    assert list(values) == [number**2 for number in range(200)]
    assert list(lept.map(abs, [])) == []
    assert list(lept.map(abs, [-1, -2, -3], timeout=PATIENCE_S)) == [1, 2, 3]
    held = lept.with_options(hold=True)
    late = held.map(abs, [-1, -2], timeout=0)
    with pytest.raises(TimeoutError):
        next(late)
    with Client(lept._watch.host) as client:
        until(lambda: not list(client.jobs(state="pending", name="abs")), "what waits is cancelled")
    with pytest.raises(ValueError, match="chunksize"):
        lept.map(abs, [], chunksize=0)


def test_cancel_is_for_what_waits_and_stop_for_what_runs(lept, tmp_path):
    waiting = lept.with_options(hold=True).submit(os.getpid)
    assert waiting.logs() == ""
    called = []
    waiting.add_done_callback(called.append)
    assert waiting.cancel()
    assert called == [waiting]
    assert repr(waiting).startswith(f"<JobFuture of job {waiting.job_id} at ")
    assert waiting.job.state is State.CANCELLED
    with pytest.raises(CancelledError):
        waiting.result()

    running = lept.submit(hold, str(tmp_path / "begun"), str(tmp_path / "never"))
    until((tmp_path / "begun").exists, "it runs")
    until(running.running, "it is known to run")
    assert not running.cancel()
    running.stop()
    with pytest.raises(CancelledError, match="cancelled"):
        running.result(PATIENCE_S)
    assert running.cancelled()
    assert running.done()
    running.stop()  # nothing is left to stop

    other = lept.with_options(hold=True).submit(os.getpid)
    with Client(lept._watch.host) as client:
        client.cancel(other.job_id)
    with pytest.raises(CancelledError):
        other.result(PATIENCE_S)
    assert other.cancelled()


def test_retries_are_not_seen(lept, tmp_path):
    def third_time(path):
        with Path(path).open("a") as file:
            file.write("x")
        if Path(path).stat().st_size < 3:
            raise RuntimeError(f"try {Path(path).stat().st_size}")
        return Path(path).stat().st_size

    stubborn = lept.with_options(retries=5, retry_delay_s=0, fail_fast=False)
    future = stubborn.submit(third_time, str(tmp_path / "tries"))
    assert future.result(PATIENCE_S) == 3
    assert future.job.attempt == 3
    hopeless = lept.with_options(retries=1, retry_delay_s=0).submit(divmod, 1, 0)
    assert isinstance(hopeless.exception(PATIENCE_S), ZeroDivisionError)
    assert hopeless.job.attempt == 2


def test_a_daemon_that_is_killed_in_the_middle_loses_nothing(tmp_path):
    daemon = Daemon(tmp_path / "state", "--simulate-gpus", "2").start()
    try:
        with LeptonExecutor(f"unix://{daemon.socket}", folder=tmp_path / "calls") as lept:
            one = lept.submit(hold, str(tmp_path / "begun1"), str(tmp_path / "go1"))
            two = lept.submit(hold, str(tmp_path / "begun2"), str(tmp_path / "go2"))
            until(lambda: (tmp_path / "begun1").exists() and (tmp_path / "begun2").exists(), "they run")
            daemon.kill()
            (tmp_path / "go1").touch()  # ends while there is no daemon
            until(lambda: list((tmp_path / "calls").glob("*/*.result")), "its value is there")
            assert not one.done()
            with ThreadPoolExecutor() as other:
                meanwhile = other.submit(lept.submit, abs, -2)  # waits for the daemon
                daemon.start()
                assert meanwhile.result(PATIENCE_S).result(PATIENCE_S) == 2
            (tmp_path / "go2").touch()
            assert [one.result(PATIENCE_S), two.result(PATIENCE_S)] == ["went", "went"]
            assert lept.submit(abs, -1).result(PATIENCE_S) == 1
    finally:
        daemon.close()


def test_another_process_takes_up_what_this_one_began(daemon, lept, tmp_path):
    running = lept.submit(hold, str(tmp_path / "begun"), str(tmp_path / "go"))
    assert lept.attach(running.job_id) is running
    failed = lept.submit(divmod, 1, 0)
    failed.exception(PATIENCE_S)
    with LeptonExecutor(lept._watch.host, folder=tmp_path / "others") as other:
        again = other.attach(str(running.job_id))
        until(again.running, "it is known to run")
        (tmp_path / "go").touch()
        assert [again.result(PATIENCE_S), running.result(PATIENCE_S)] == ["went", "went"]
        assert isinstance(other.attach(failed.job_id).exception(0), ZeroDivisionError)
        with pytest.raises(ValueError, match="is not a call"):
            other.attach(daemon.submit("true"))
        with pytest.raises(ApiError, match="there is no job"):
            other.attach(999_999)
    assert outcome(running.path, running.job_id, None) == "went"  # the daemon may forget the job
    with pytest.raises(JobFailed, match="does not know job"):
        outcome(running.path, 999_999, None)


@pytest.mark.parametrize("mode", [0o2770, 0o700])
def test_files_have_the_permissions_of_the_folder(lept, tmp_path, mode):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(mode)
    with LeptonExecutor(lept._watch.host, folder=tmp_path / "shared") as other:
        future = other.submit(abs, -1)
        future.result(PATIENCE_S)
    directory = Path(future.path).parent
    files = [file for file in directory.iterdir() if file.suffix in (".call", ".result")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in (directory, *files)] == [mode] + [mode & 0o666] * 2


def test_two_executors_share_a_folder(lept, tmp_path):
    with LeptonExecutor(lept._watch.host, folder=tmp_path / "calls") as other:
        mine, theirs = lept.map(abs, [-1, -2]), other.map(abs, [-3, -4])
        assert [*mine, *theirs] == [1, 2, 3, 4]
        kinds = [
            command_kind(one.submit(fn, -1).job.spec.argv, shell=False)
            for one in (lept, other)
            for fn in (abs, hex)
        ]
    assert kinds[:2] == kinds[2:]  # how long a function ran before is known whichever executor asked
    assert kinds[0] != kinds[1]


def test_a_value_of_a_class_of_the_notebook_is_of_that_class_here(lept):
    class Point:
        def __init__(self, x):
            self.x = x

    Point.__module__ = "__main__"
    big = lept.submit(lambda point: (Point(point.x + 1), bytes(30 << 20)), Point(1))
    point, data = big.result(PATIENCE_S)
    assert isinstance(point, Point)
    assert (point.x, len(data)) == (2, 30 << 20)
    assert big.job.name == "lambda"


def test_a_call_file_that_is_gone_when_the_job_starts(lept):
    future = lept.with_options(hold=True, retries=3).submit(os.getpid)
    Path(future.path).unlink()
    with Client(lept._watch.host) as client:
        client.release(future.job_id)
    error = future.exception(PATIENCE_S)
    assert isinstance(error, JobFailed)
    assert "there is no call to make" in str(error)
    assert error.job.attempt == 1


def test_without_cloudpickle_functions_travel_by_name(lept, daemon, tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "_has_cloudpickle", lambda: False)
    with LeptonExecutor(f"unix://{daemon.socket}", folder=tmp_path / "plain") as plain:
        with pytest.raises(TypeError, match="pip install cloudpickle"):
            plain.submit(hold, "a", "b")
        with pytest.raises(TypeError, match="cannot travel into a job"):
            plain.submit(abs, threading.Lock())
        assert plain.submit(os.path.join, "a", "b").result(PATIENCE_S) == "a/b"


def test_mistakes_are_told_when_they_are_made(lept, daemon, tmp_path):
    host = f"unix://{daemon.socket}"
    with pytest.raises(TypeError, match="'gpu' is no option"):
        lept.with_options(gpu=1)
    with pytest.raises(ValueError, match="nproc='auto': auto is one a GPU"):
        lept.with_options(nproc="auto").submit(os.getpid)
    with pytest.raises(ApiError, match="64 GPUs"):
        lept.with_options(gpus=64).submit(os.getpid)
    assert not list(lept._calls.directory.glob("*.call"))  # what was refused is not kept
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file") as raised:
        LeptonExecutor(host, folder=tmp_path / "file")
    assert "folder=" in str(raised.value.__notes__)
    with pytest.raises(Unreachable):
        LeptonExecutor(f"unix://{tmp_path}/none.sock", folder=tmp_path)
    lept.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        lept.submit(os.getpid)


def test_shutdown_waits_or_cancels(daemon, tmp_path):
    host = f"unix://{daemon.socket}"
    with LeptonExecutor(host, folder=tmp_path) as lept:
        future = lept.submit(abs, -1)
    assert future.done()
    assert future.result() == 1
    assert future.logs() == ""
    held = LeptonExecutor(host, folder=tmp_path, hold=True)
    future = held.submit(abs, -1)
    held.shutdown(cancel_futures=True)
    assert future.cancelled()


def test_calls_that_ended_long_ago_are_swept(daemon, lept, tmp_path):
    waiting = lept.with_options(hold=True).submit(abs, -1)
    old = LeptonExecutor(f"unix://{daemon.socket}", folder=tmp_path / "calls")
    with old:
        assert old.submit(abs, -1).result(PATIENCE_S) == 1
    directory = old._calls.directory
    for file in [*directory.iterdir(), Path(waiting.path)]:
        os.utime(file, (0, 0))
    LeptonExecutor(f"unix://{daemon.socket}", folder=tmp_path / "calls", keep_s=3600).shutdown()
    assert not directory.exists()
    assert Path(waiting.path).exists()


@pytest.mark.slow
def test_ranks_under_torchrun(lept):
    def world(fail):
        rank = int(os.environ["RANK"])
        if fail and rank == 1:
            raise LookupError(f"rank {rank}")
        return [rank, int(os.environ["WORLD_SIZE"])]

    ranks = lept.with_options(nproc="auto", gpus=2)
    assert ranks.submit(world, False).result(120) == [0, 2]
    with pytest.raises(LookupError, match="rank 1"):
        ranks.submit(world, True).result(120)


@pytest.mark.slow
def test_two_hundred_jobs_at_once(lept):
    values = lept.map(pow, range(200), [2] * 200)
    assert list(values) == [number**2 for number in range(200)]


def test_the_example_of_the_readme(daemon, tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "README.md").read_text()
    example = text.partition("<!-- tested: tests/daemon/test_executor.py -->\n```python\n")[2].partition(
        "```"
    )[0]
    monkeypatch.setenv("LEPTOND_HOST", f"unix://{daemon.socket}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    names = {"train": lambda rate: rate * 2}
    exec(example, names)
    assert names["losses"] == [2e-3, 6e-4, 2e-4]
    assert [path.name for path in tmp_path.iterdir()] == ["leptond-calls"]
