"""The limit of the demonstration's overrun comes from what a first step takes on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leptond.demo.jobs import all_jobs, short_ones_by_priority
from leptond.demo.sandbox import Sandbox, limit_after


class Recorder:
    """In place of the transport: notes what is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []

    def request(self, method: str, path: str, *, body: Any = None) -> None:
        self.asked.append((method, path, body))

    def post(self, path: str, body: Any = None) -> None:
        self.asked.append(("POST", path, body))


@pytest.mark.parametrize("seconds", [0.5, 3.0, 20.0, 120.0])
def test_a_limit_leaves_time_for_a_start_as_slow_again_and_for_some_steps(seconds: float):
    assert limit_after(seconds) >= 2 * seconds + 5


def test_it_is_set_once_and_only_when_the_first_step_has_been_seen(tmp_path: Path):
    sandbox = Sandbox(tmp_path, None, lambda text: None)
    recorder = Recorder()
    sandbox.api = recorder  # type: ignore[assignment]
    jobs = {job.name: job for job in all_jobs(2)}
    overrun, train = jobs["overrun"], jobs["train"]
    overrun.id = 3
    assert overrun.spec["hold"] is True
    assert overrun.limit_by is train
    sandbox.set_limit(overrun)
    train.metrics, train.began = tmp_path / "train.jsonl", 0.001
    sandbox.set_limit(overrun)
    assert recorder.asked == []
    train.metrics.write_text(json.dumps({"step": 30}) + "\n")
    sandbox.set_limit(overrun)
    sandbox.set_limit(overrun)
    (method, path, body), released = recorder.asked
    assert (method, path, body["time_limit_s"] > 6) == ("PATCH", "/v1/jobs/3", True)
    assert released == ("POST", "/v1/jobs/3/release", None)


@pytest.mark.parametrize(
    ("claimed", "in_order"),
    [
        ([4, 3, 2, 1], True),
        ([3, 3, 1, 1], True),
        ([1, 1, 1, 1], True),
        ([3, 4, 2, 1], False),
        ([1, 2, 3, 4], False),
    ],
)
def test_two_short_ones_may_start_at_once_but_none_before_one_of_higher_priority(claimed, in_order: bool):
    short = [job for job in all_jobs(2) if job.name.startswith("short-")]
    shown = {}
    for position, (job, second) in enumerate(zip(short, claimed, strict=True)):
        job.id = position
        shown[position] = {"attempts": [{"claimed_at": f"2026-01-01T00:00:0{second}.000000Z"}]}
    assert short_ones_by_priority(short, shown) is in_order
