"""submitit over the real daemon: what code written for a cluster does."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE_S, Daemon, until

submitit = pytest.importorskip("submitit", reason="the submitit plugin needs submitit (the extra submitit)")

from submitit.core import plugins, utils  # noqa: E402

from leptond import Client  # noqa: E402
from leptond.integrations.submitit import LeptondExecutor, LeptondJob  # noqa: E402


@pytest.fixture(scope="module")
def daemon(tmp_path_factory) -> Iterator[Daemon]:
    one = Daemon(
        tmp_path_factory.mktemp("submitit") / "state",
        "--simulate-gpus",
        "2",
        env={
            "LEPTOND_QUEUE__CPU_SLOTS": "4",
            "LEPTOND_PLANNER__CLASS_GPU_S": "0",
            "LEPTOND_PLANNER__MIN_RUN_S": "0",
            "LEPTOND_PLANNER__MIN_RUN_FACTOR": "0",
        },
    )
    one.start()
    yield one
    one.close()


@pytest.fixture
def executor(daemon, tmp_path, monkeypatch):
    monkeypatch.setenv("LEPTOND_HOST", f"unix://{daemon.socket}")
    one = submitit.AutoExecutor(folder=tmp_path / "logs", cluster="leptond")
    one.update_parameters(timeout_min=10, leptond_retry_delay_s=0)
    return one


class Counts:
    """Goes on from where a checkpoint left it, and ends when it was resumed that often."""

    def __init__(self, begun: str) -> None:
        self.begun = begun
        self.resumed = 0

    def __call__(self, until_resumed: int) -> list[int]:
        import pathlib
        import time

        import submitit

        rank = submitit.JobEnvironment().global_rank
        pathlib.Path(f"{self.begun}{self.resumed}.{rank}").touch()
        while self.resumed < until_resumed:
            time.sleep(0.02)
        return [self.resumed, until_resumed]

    def again(self):
        """Another, which says under a name of its own that it has begun."""
        return type(self)(self.begun.replace("begun", "again"))

    def checkpoint(self, until_resumed: int):
        import submitit

        self.resumed += 1
        print("saved", flush=True)
        return submitit.helpers.DelayedSubmission(self, until_resumed)


@pytest.fixture
def counts(tmp_path):
    # as one of a notebook: it travels by value
    kind = type("Counts", (), {name: value for name, value in vars(Counts).items() if name != "__dict__"})
    kind.__module__ = "__main__"
    return kind(str(tmp_path / "begun"))


def test_submitit_knows_it_and_does_not_choose_it_by_itself():
    assert plugins.get_executors()["leptond"] is LeptondExecutor
    assert "leptond" in plugins.get_job_environments()
    assert submitit.AutoExecutor.which() != "leptond"


def test_a_job_from_submit_to_its_result(executor, daemon):
    def work(a, b):
        import submitit

        env = submitit.JobEnvironment()
        print("in", env.job_id, env.cluster, flush=True)
        return a + b, env.num_tasks, os.environ["CUDA_VISIBLE_DEVICES"]

    executor.update_parameters(
        name="adds", gpus_per_node=1, leptond_priority=3, leptond_setup=["export PATH=$PATH", "true"]
    )
    job = executor.submit(work, 1, 2)
    assert isinstance(job, LeptondJob)
    total, tasks, devices = job.result()
    assert (total, tasks, bool(devices)) == (3, 1, True)
    assert (job.state, job.done(), job.exception()) == ("COMPLETED", True, None)
    assert f"in {job.job_id} leptond" in job.stdout()
    found = daemon.job(int(job.job_id))
    assert (found["name"], found["gpus"], found["priority"], found["time_limit_s"]) == ("adds", 1, 3, 600)
    until(job.paths.stdout.exists, "the output is where submitit looks for it")


def test_a_job_that_fails_says_how(executor):
    def fails():
        raise ValueError("no good")

    def dies():
        os._exit(9)

    failed, died = executor.submit(fails), executor.submit(dies)
    with pytest.raises(utils.FailedJobError, match="no good"):
        failed.result()
    with pytest.raises(utils.UncompletedJobError, match="state: FAILED"):
        died.result()
    assert failed.state == died.state == "FAILED"


def test_retries_of_leptond_are_not_taken_for_the_end(executor, tmp_path):
    def second_time(path):
        if not Path(path).exists():
            Path(path).touch()
            raise ValueError("not yet")
        return "now"

    executor.update_parameters(leptond_retries=2)
    assert executor.submit(second_time, str(tmp_path / "tried")).result() == "now"


def test_an_array_keeps_to_its_parallelism(executor, daemon):
    executor.update_parameters(leptond_array_parallelism=2)
    jobs = executor.map_array(pow, range(4), [2] * 4)
    assert [job.job_id.partition("_")[2] for job in jobs] == ["0", "1", "2", "3"]
    assert [job.result() for job in jobs] == [0, 1, 4, 9]
    with Client() as lept:
        runs = [run for job in jobs for run in lept.job(job.job_id).attempts]
    assert max(sum(one.claimed_at <= run.claimed_at < one.ended_at for one in runs) for run in runs) <= 2
    with executor.batch():
        batched = [executor.submit(abs, -number) for number in (1, 2)]
    assert [job.result() for job in batched] == [1, 2]
    assert {job.paths.stdout.parent for job in jobs} == {Path(executor.folder)}


def test_the_signal_before_the_limit_is_a_checkpoint_and_another_go(executor, daemon, counts, tmp_path):
    executor._executor.max_num_timeout = 1
    executor.update_parameters(timeout_min=5, leptond_signal_delay_s=30)
    once, twice = executor.submit(counts, 1), executor.submit(counts.again(), 99)
    until(lambda: all((tmp_path / name).exists() for name in ("begun0.0", "again0.0")), "they run")
    assert daemon.job(int(once.job_id))["spec"]["warn_signal"] == {"signal": "USR2", "before_s": 30}
    once._interrupt()
    twice._interrupt()
    assert once.result() == [1, 1]
    found = daemon.job(int(once.job_id))
    assert [one["class"] for one in found["attempts"]] == ["tempfail", "ok"]
    assert "saved" in daemon.output(int(once.job_id), 1)
    until((tmp_path / "again1.0").exists, "it runs again")
    twice._interrupt()
    with pytest.raises(utils.FailedJobError, match="timed-out too many times"):
        twice.result()
    assert daemon.job(int(twice.job_id))["attempt"] == 2


@pytest.mark.slow
def test_a_real_time_limit(executor, daemon, counts):
    executor.update_parameters(leptond_timeout_min=0.2, leptond_signal_delay_s=4)
    job = executor.submit(counts, 1)
    assert job.result() == [1, 1]
    assert [one["class"] for one in daemon.job(int(job.job_id))["attempts"]] == ["tempfail", "ok"]


def test_a_job_makes_room_and_comes_back_with_what_it_saved(executor, daemon, counts, tmp_path):
    executor.update_parameters(gpus_per_node=2, leptond_preemptible=True, timeout_min=60)
    job = executor.submit(counts, 1)
    until((tmp_path / "begun0.0").exists, "it runs")
    short = daemon.submit("true", gpus=1, time_limit_s=30)
    assert daemon.finished(short)["state"] == "succeeded"
    assert job.result() == [1, 1]
    found = daemon.job(int(job.job_id))
    assert [one["class"] for one in found["attempts"]] == ["preempted", "ok"]


def test_a_cancel_is_the_end_and_saves_nothing(executor, daemon, counts, tmp_path):
    running = executor.submit(counts, 99)
    executor.update_parameters(leptond_hold=True)
    waiting = executor.submit(abs, -1)
    assert (waiting.state, waiting.done()) == ("PENDING", False)
    waiting.cancel()
    until((tmp_path / "begun0.0").exists, "it runs")
    began = time.monotonic()
    running.cancel()
    for job in (running, waiting):
        with pytest.raises(utils.UncompletedJobError, match="CANCELLED"):
            job.result()
        job.cancel()  # nothing is left to cancel
    assert time.monotonic() - began < PATIENCE_S  # not by the kill at the end of its grace
    found = daemon.job(int(running.job_id))
    assert (found["attempt"], found["attempts"][0]["exit_code"]) == (1, 143)
    assert "saved" not in daemon.output(int(running.job_id))


def test_several_tasks_are_ranks_with_output_of_their_own(executor, daemon, counts, tmp_path):
    def rank(fail):
        import sys

        import submitit

        env = submitit.JobEnvironment()
        print("out of", env.global_rank, env.local_rank, env.num_tasks, flush=True)
        print("err of", env.global_rank, file=sys.stderr)
        if fail == env.global_rank:
            raise ValueError(f"rank {fail}")
        return env.global_rank

    executor.update_parameters(tasks_per_node=2)
    good, bad, saves = executor.submit(rank, None), executor.submit(rank, 1), executor.submit(counts, 1)
    assert good.results() == [0, 1]
    assert "out of 1 1 2" in good.task(1).stdout()
    assert "err of 1" in good.task(1).stderr()
    with pytest.raises(utils.FailedJobError, match="rank 1"):
        bad.results()
    assert (bad.task(0).result(), bad.state) == (0, "FAILED")
    until(lambda: len(list(tmp_path.glob("begun0.*"))) == 2, "all of it runs")
    saves._interrupt()
    assert saves.results() == [[1, 1]] * 2
    assert [one["class"] for one in daemon.job(int(saves.job_id))["attempts"]] == ["tempfail", "ok"]


def test_mistakes_are_told_when_they_are_made(executor, daemon, tmp_path):
    with pytest.raises(NameError, match="Unknown argument 'gpu'"):
        executor.update_parameters(leptond_gpu=1)
    with pytest.raises(ValueError, match="one machine"):
        executor.update_parameters(nodes=2)
    executor.update_parameters(mem_gb=4, cpus_per_task=2, tasks_per_node=3)
    spec = executor._executor._spec(1, warned=False)
    assert (spec["mem_bytes"], spec["cpus"]) == (4 * 2**30, 6)
    executor.update_parameters(tasks_per_node=1)
    with pytest.raises(ValueError, match="'gpus' is no parameter"):
        LeptondExecutor(tmp_path).update_parameters(gpus=1)
    executor.update_parameters(gpus_per_node=64)
    with pytest.raises(utils.FailedSubmissionError, match="64 GPUs"):
        executor.submit(abs, -1)
    assert not list(Path(executor.folder).glob("*.pkl"))
    executor.update_parameters(gpus_per_node=0, leptond_export="NOT_SET_HERE")
    with pytest.raises(ValueError, match="'NOT_SET_HERE' is not set"):
        executor.submit(abs, -1)
    executor.update_parameters(leptond_export="NONE")
    following = daemon.submit("true", hold=True) + 1
    (Path(executor.folder) / f"{following}_submitted.pkl").mkdir()
    with pytest.raises(IsADirectoryError):
        executor.submit(abs, -1)
    assert daemon.job(following)["state"] == "cancelled"
    assert not [file for file in Path(executor.folder).glob("*.pkl") if file.is_file()]
    executor._executor.max_pickle_size_gb = 0.0
    with pytest.raises(RuntimeError, match="max_pickle_size_gb"):
        executor.submit(abs, -1)
    with warnings.catch_warnings():  # code for several clusters may name ours on another
        warnings.simplefilter("error")
        submitit.AutoExecutor(tmp_path, cluster="local").update_parameters(leptond_queue="x")
