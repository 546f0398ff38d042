"""Functions as jobs: what is written and sent for a call, what comes back, and what a mistake says."""

from __future__ import annotations

import os
import pickle
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from leptond import LeptonExecutor, call
from leptond.client import ApiError, Unreachable, executor
from leptond.core.jobs.states import State
from tests.unit.cli.stub import Stub, make_job, problem
from tests.unit.client.calls import Calls


@pytest.fixture
def calls(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    one = Calls(stub, monkeypatch)
    yield one
    one.close()


@pytest.fixture
def lept(calls: Calls, home: Path) -> Iterator[LeptonExecutor]:
    one = LeptonExecutor(folder=home / "calls", gpus=1, env={"A": "1"})
    yield one
    one.shutdown(wait=False, cancel_futures=True)


def test_a_call_is_a_file_and_a_job_and_its_value_comes_back(calls: Calls, lept: LeptonExecutor) -> None:
    future = lept.submit(divmod, 17, 5)
    assert future.job_id == 47
    (asked,) = calls.stub.of("POST", "/v1/jobs")
    assert asked.body["argv"][:3] == [sys.executable, "-m", "leptond.call"]
    assert (asked.body["name"], asked.body["gpus"], asked.body["cwd"]) == ("divmod", 1, str(Path.cwd()))
    assert asked.body["env"]["A"] == "1"
    assert call.look(asked.body["argv"][3])["what"] == "divmod"
    calls.run(47)
    assert future.result(30) == (3, 2)
    assert Path(future.path).with_suffix(".end").exists()


def test_an_exception_is_raised_here(calls: Calls, lept: LeptonExecutor) -> None:
    future = lept.submit(divmod, 1, 0)
    calls.run(47)
    with pytest.raises(ZeroDivisionError):
        future.result(30)


def test_a_map_is_one_request_and_keeps_its_order(calls: Calls, lept: LeptonExecutor) -> None:
    values = lept.map(pow, [2, 3, 4], [2, 2, 2])
    assert len(calls.stub.of("POST", "/v1/jobs:batch")) == 1
    for number in (49, 47, 48):
        calls.run(number)
    assert list(values) == [4, 9, 16]
    chunks = lept.map(pow, [2, 3, 4], [3, 3, 3], chunksize=2)
    calls.run(50)
    calls.run(51)
    assert list(chunks) == [8, 27, 64]


def test_a_map_that_takes_too_long(lept: LeptonExecutor) -> None:
    with pytest.raises(TimeoutError):
        next(lept.map(abs, [1], timeout=0.05))
    with pytest.raises(ValueError, match="chunksize is 0"):
        lept.map(abs, [1], chunksize=0)


def test_options_are_for_the_calls_that_are_made_through_them(calls: Calls, lept: LeptonExecutor) -> None:
    lept.with_options(gpus=2, time_limit_s=60.0, name="big").submit(abs, 1)
    lept.submit(abs, 1)
    big, small = (asked.body for asked in calls.stub.of("POST", "/v1/jobs"))
    assert (big["name"], big["gpus"], big["time_limit_s"]) == ("big", 2, 60.0)
    assert (small["name"], small["gpus"], "time_limit_s" in small) == ("abs", 1, False)


def test_ranks_are_started_by_torchrun(calls: Calls, lept: LeptonExecutor) -> None:
    lept.with_options(nproc="auto", gpus=2).submit(abs, 1)
    (asked,) = calls.stub.of("POST", "/v1/jobs")
    assert asked.body["argv"][:5] == [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nproc": "auto", "gpus": 0}, r"nproc='auto': auto is one a GPU, and the job has none"),
        ({"nproc": 0}, r"nproc=0: '0' is neither auto nor a number from 1"),
        (
            {"nproc": 2, "python": "/opt/pypy"},
            r"nproc=2 starts ranks of a Python interpreter, and python='/opt/pypy' is not named as one is",
        ),
    ],
)
def test_a_mistake_is_a_sentence_about_python_not_about_a_command_line(
    calls: Calls, lept: LeptonExecutor, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        lept.with_options(**options).submit(abs, 1)
    assert "--" not in str(caught.value)
    assert not calls.stub.of("POST", "/v1/jobs")


def test_an_unknown_option_is_a_type_error_that_names_the_others(lept: LeptonExecutor) -> None:
    with pytest.raises(TypeError, match="'gpu' is no option of a call; there are nproc, python, after"):
        lept.with_options(gpu=1)


def test_what_the_daemon_refuses_leaves_no_file(calls: Calls, lept: LeptonExecutor, home: Path) -> None:
    calls.stub.on("POST", "/v1/jobs", problem(422, "64 GPUs are more than there are"))
    with pytest.raises(ApiError, match="64 GPUs"):
        lept.with_options(gpus=64).submit(abs, 1)
    assert not list((home / "calls").rglob(f"*{call.SUFFIX}"))


def test_what_cannot_travel_is_a_type_error(lept: LeptonExecutor) -> None:
    with pytest.raises(TypeError, match="cannot travel into a job"):
        lept.submit(len, (thing for thing in "generators have no pickle"))


def test_another_process_takes_up_a_call_by_its_job(calls: Calls, lept: LeptonExecutor) -> None:
    future = lept.submit(abs, -3)
    assert lept.attach(47) is future
    calls.run(47)
    future.result(30)
    assert lept.attach(47).result(30) == 3
    spec = msgspec.structs.replace(calls.jobs[47].spec, argv=["true"])
    calls.stub.on("GET", "/v1/jobs/99", make_job(id=99, spec=spec))
    with pytest.raises(ValueError, match="job 99 is not a call of an executor: it runs true"):
        lept.attach(99)


def test_after_shutdown_there_are_no_more_calls(calls: Calls, lept: LeptonExecutor) -> None:
    waiting = lept.submit(abs, 1)
    lept.shutdown(cancel_futures=True)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="after shutdown"):
        lept.submit(abs, 1)


def test_a_process_that_left_by_itself_is_a_failure_with_its_output(
    calls: Calls, lept: LeptonExecutor
) -> None:
    future = lept.submit(abs, 1)
    calls.end(47, State.FAILED, signal="SIGKILL")
    error = future.exception(30)
    assert isinstance(error, executor.JobFailed)
    assert error.tail == "first line\nlast line"
    assert str(error).endswith("the end of its output:\nfirst line\nlast line")


def test_without_a_daemon_it_does_not_begin(home: Path) -> None:
    with pytest.raises(Unreachable):
        LeptonExecutor(folder=home / "calls")


def test_calls_have_the_permissions_of_the_folder(home: Path) -> None:
    shared = home / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    made = executor.Calls(shared)
    path = made.write("f", abs, (1,), {})
    assert stat.S_IMODE(made.directory.stat().st_mode) == 0o2770
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o660
    assert pickle.loads(Path(path).read_bytes())[0] is abs


def test_a_folder_that_cannot_be_made_says_how_to_name_another(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory") as caught:
        executor.Calls(home / "file" / "calls")
    assert "LeptonExecutor(folder=...)" in caught.value.__notes__[0]


def test_directories_of_calls_that_all_ended_are_removed_when_they_are_old(home: Path) -> None:
    def made(*names: str, age_s: float = 100.0) -> Path:
        directory = home / f"calls/{len(list((home / 'calls').glob('*')))}"
        directory.mkdir(parents=True)
        for name in names:
            (directory / name).write_text("")
            os.utime(directory / name, (time.time() - age_s,) * 2)
        return directory

    (home / "calls").mkdir()
    old = made("f-1.call", "f-1.end")
    kept = [made("f-1.call"), made("f-1.call", "f-1.end", age_s=1.0), made()]
    executor.Calls(home / "calls").sweep(50.0)
    assert not old.exists()
    assert all(directory.exists() for directory in kept)
