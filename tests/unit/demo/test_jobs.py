"""The jobs of the demonstration, and how their outcomes are judged."""

from __future__ import annotations

from typing import Any

import pytest

from leptond.demo import jobs
from leptond.demo.sandbox import DemoJob


class Sandbox:
    """What a judge asks: the reports and the output of a job."""

    simulated = True

    def __init__(self, reports: list[dict[str, Any]], output: str = "") -> None:
        self._reports, self._output = reports, output

    def reports(self, demo_job: DemoJob) -> list[dict[str, Any]]:
        return self._reports

    def output(self, job: dict[str, Any], number: int) -> str:
        return self._output


def judged(name: str, sandbox: Sandbox, job: dict[str, Any]) -> list[bool]:
    (one,) = [demo_job for demo_job in jobs.all_jobs(2) if demo_job.name == name]
    return [good for _, good in one.checks(sandbox, job)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("gpus", "ranks"), [(1, 1), (2, 2), (8, 2)])
def test_there_are_more_jobs_than_gpus_and_a_gang_that_fits(gpus: int, ranks: int) -> None:
    found = {demo_job.name: demo_job for demo_job in jobs.all_jobs(gpus)}
    assert found["train-ddp"].spec["gpus"] == ranks
    assert sum(name.startswith("short-") for name in found) == gpus + 2
    assert {demo_job.expected for demo_job in found.values()} == {"succeeded", "timed_out", "failed"}


def report(loss: float, *, attempt: int = 1, world: int = 2) -> dict[str, Any]:
    return {"loss": loss, "held_out": loss, "attempt": attempt, "world_size": world, "device": "cpu"}


def test_a_training_has_learned_when_its_loss_fell() -> None:
    job: dict[str, Any] = {"attempts": [{}]}
    assert judged("train", Sandbox([report(4.0), report(2.0)]), job) == [True, True, True]
    assert judged("train", Sandbox([report(4.0), report(3.9)]), job) == [True, False, True]
    assert judged("train", Sandbox([]), job) == [False, True]


def test_a_retry_has_to_go_on_where_the_first_attempt_saved() -> None:
    job = {"attempts": [{"class": "user"}, {"class": "ok"}]}
    reports = [report(4.0), report(3.0), report(2.9, attempt=2)]
    assert judged("flaky", Sandbox(reports, "resumed from step 20"), job) == [True, True, True]
    assert judged("flaky", Sandbox([report(4.0), report(4.5, attempt=2)]), job) == [True, False, False]
    assert judged("flaky", Sandbox([]), {"attempts": [{"class": "ok"}]}) == [False]


def test_a_gang_holds_its_gpus_and_one_model() -> None:
    job = {"attempts": [{"gpus": [0, 1]}]}
    same = "2 ranks hold the same weights"
    assert judged("train-ddp", Sandbox([report(3.0)], same), job) == [True, True, True]
    assert judged("train-ddp", Sandbox([report(3.0, world=1)], ""), job) == [False, False, True]


def test_a_limit_stops_and_does_not_kill() -> None:
    attempt = {"class": "timeout", "stop_reason": "timeout", "signal": None}
    output = "saved at step 3 after SIGTERM"
    assert judged("overrun", Sandbox([], output), {"attempts": [attempt]}) == [True, True, True]
    killed = {**attempt, "signal": "SIGKILL"}
    assert judged("overrun", Sandbox([], output), {"attempts": [killed]}) == [True, True, False]


def test_a_typo_is_not_tried_again() -> None:
    assert judged("typo", Sandbox([]), {"attempts": [{"class": "config"}]}) == [True]
    assert judged("typo", Sandbox([]), {"attempts": [{"class": "config"}] * 2}) == [False]


def test_the_short_jobs_start_by_priority() -> None:
    demo_jobs = jobs.all_jobs(1)
    for number, demo_job in enumerate(demo_jobs):
        demo_job.id = number

    def claimed(order: list[int]) -> bool:
        names = [f"short-p{number}" for number in order]
        found = {
            demo_job.id: {"attempts": [{"claimed_at": f"{names.index(demo_job.name)}"}]}
            for demo_job in demo_jobs
            if demo_job.name in names
        }
        return jobs.short_ones_by_priority(demo_jobs, found)

    assert claimed([3, 2, 1])
    assert not claimed([3, 1, 2])
