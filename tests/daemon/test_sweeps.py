"""Sweeps through a real daemon: the trials are real processes that report through the job channel, those that
show bad losses are stopped at their rungs, and what that saved is told."""

import os
import shlex
import subprocess

import pytest

from leptond import AsyncClient, Client
from leptond.cli.commands import cost
from tests.daemon.test_progress import PYTHON, SRC, script
from tests.support.daemon import Daemon, until

TRAINING = """
import sys, time
loss = float(job.params["loss"])
assert f"--loss={loss!r}" in sys.argv, sys.argv
for step in range(1, 100_001):
    job.report(step=step, total=100_000, loss=loss + 1 / step)
    if job.should_stop():
        print("told to stop:", job.stop_reason(), flush=True)
        sys.exit(0)
    if step == 10:
        print("at the rung", flush=True)
    if step >= 10 and loss < 1:
        job.report(step=100_000, total=100_000, loss=loss)
        break
    time.sleep(0.005)
"""
"""A training that is over when its loss is below 1; else it goes on for minutes."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A daemon with a sweep that has ended: one trial at a time, so that their order is known."""
    one = Daemon(tmp_path_factory.mktemp("sweeps") / "state", "--simulate-gpus", "2")
    one.start()
    submit(one, [0.5, 3.0, 0.25, 2.0], key="k")
    over(one, 1)
    yield one
    one.close()


def submit(daemon: Daemon, losses: list[float], *, key: str = "", **more) -> dict:
    body = {
        "job": {"argv": script(TRAINING), "gpus": 1, "grace_s": 20},
        "grid": {"loss": losses},
        "min_step": 10,
        "eta": 2,
        "concurrent": 1,
        **more,
    }
    answer = daemon.post("/v1/sweeps", body, **({"Idempotency_Key": key} if key else {}))
    assert answer.status in (200, 201), answer.data
    return answer.json


def over(daemon: Daemon, sweep: int) -> dict:
    """The sweep when it has ended."""

    def look():
        found = daemon.get(f"/v1/sweeps/{sweep}?wait_s=20").json
        return found if found["state"] == "ended" else None

    return until(look, f"the end of sweep {sweep}")


def test_the_bad_ones_are_stopped_at_the_rung_and_the_best_is_named(run):
    found = over(run, 1)
    assert found["counts"] == {"succeeded": 2, "stopped_early": 2}
    assert (found["best"]["ref"], found["best"]["params"]) == ("1_2", {"loss": 0.25})
    first, second, third, fourth = found["trials"]
    assert [one["state"] for one in found["trials"]] == ["succeeded", "cancelled", "succeeded", "cancelled"]
    assert (second["class"], second["stopped_early"]) == ("stopped-early", True)
    assert second["explanation"].startswith("stopped early: rung 10, value 3.")
    assert second["explanation"].endswith("2nd of 2; the best goes on")
    assert fourth["explanation"].endswith("3rd of 4; the best 2 go on")
    assert [one["verdict"] for one in first["rungs"]][:1] == ["on"]
    assert {rung["verdict"] for rung in second["rungs"]} >= {"stop"}
    assert (third["value"], third["step"], third["total"]) == (0.25, 100_000, 100_000)
    assert "told to stop: halving" in run.output(second["id"])
    job = run.job(second["id"])
    assert (job["attempts"][0]["stop_reason"], job["exit_code"], job["attempt"]) == ("halving", 0, 1)


def test_what_it_saved_is_a_line_of_the_report_and_in_no_box(run):
    found = over(run, 1)
    stopped = [one for one in found["trials"] if one["stopped_early"]]
    # the pace of each is known: 5 ms a step at least, and 100,000 of them
    assert all(one["saved_gpu_seconds"] > 90_000 * 0.005 for one in stopped)
    assert found["saved_gpu_seconds"] == pytest.approx(sum(one["saved_gpu_seconds"] for one in stopped))
    usage = run.get("/v1/usage").json
    memos = usage["memos"]
    assert memos["stopped_early"] == 2
    assert memos["stopped_early_gpu_seconds"] == pytest.approx(found["saved_gpu_seconds"])
    (line,) = [text for text in cost._sentences(usage) if "early" in text]
    assert line.startswith("Stopped early by sweeps: 2 trials whose pace is known, about ")
    boxes = {box["box"]: box for box in usage["boxes"]}
    assert boxes["cancel"]["gpu_seconds"] < 60 < memos["stopped_early_gpu_seconds"]
    assert [cause["cause"] for cause in boxes["cancel"]["causes"]] == ["stopped-early"]
    assert sum(box["gpu_seconds"] for box in usage["boxes"]) == pytest.approx(usage["capacity_gpu_seconds"])


def test_what_was_saved_is_not_forgotten_with_the_job(run):
    submitted = submit(run, [0.5, 3.0])
    before = over(run, submitted["id"])
    assert before["counts"] == {"succeeded": 1, "stopped_early": 1}
    told = run.get("/v1/usage").json["memos"]["stopped_early_gpu_seconds"]
    assert run.request("DELETE", f"/v1/jobs/{submitted['ids'][1]}").status == 204
    assert run.get("/v1/usage").json["memos"]["stopped_early_gpu_seconds"] == pytest.approx(told)
    assert [one["number"] for one in over(run, submitted["id"])["trials"]] == [0]
    assert run.request("DELETE", f"/v1/jobs/{submitted['ids'][0]}").status == 204
    assert run.get(f"/v1/sweeps/{submitted['id']}").status == 404


def test_the_same_key_brings_the_same_sweep(run):
    again = submit(run, [0.5, 3.0, 0.25, 2.0], key="k")
    assert (again["id"], again["ids"]) == (1, [1, 2, 3, 4])
    assert again["trials"] == [{"loss": loss} for loss in (0.5, 3.0, 0.25, 2.0)]
    assert [one["id"] for one in run.get("/v1/sweeps").json["items"]].count(1) == 1


def test_without_halving_all_go_on_until_they_are_cancelled(run):
    sweep = submit(run, [3.0, 2.0], halving=False, concurrent=2)
    for job in sweep["ids"]:
        run.printed(job, "at the rung")
    assert run.get(f"/v1/sweeps/{sweep['id']}").json["state"] == "running"
    answer = run.post(f"/v1/sweeps/{sweep['id']}/cancel", {"grace_s": 0, "reason": "enough"})
    assert (answer.status, answer.json["changed"]) == (202, 2)
    found = over(run, sweep["id"])
    assert found["counts"] == {"cancelled": 2}
    assert all(one["rungs"] == [] and not one["stopped_early"] for one in found["trials"])


def test_a_restarted_daemon_decides_the_same(daemon, tmp_path):
    """kill -9 while the second trial stands before its rung: what the first showed there is not forgotten,
    and what it decides is what it would have decided."""
    gate = tmp_path / "gate"
    held = TRAINING.replace(
        "for step in", f"import pathlib\ngate = pathlib.Path({str(gate)!r})\nfor step in"
    ).replace(
        "    if step == 10:",
        "    while step == 9 and loss > 1 and not gate.exists():\n"
        "        print('waits', flush=True); time.sleep(0.02)\n    if step == 10:",
    )
    sweep = submit(daemon, [0.5, 3.0, 2.0], job={"argv": script(held), "gpus": 1, "grace_s": 20})
    daemon.finished(sweep["ids"][0])
    daemon.printed(sweep["ids"][1], "waits")
    daemon.kill()
    gate.touch()
    daemon.start()
    found = over(daemon, sweep["id"])
    assert found["counts"] == {"succeeded": 1, "stopped_early": 2}
    assert [one["rungs"][0]["note"] is None for one in found["trials"]] == [True, False, False]
    assert found["trials"][1]["explanation"].endswith("2nd of 2; the best goes on")
    assert all(daemon.job(job)["attempt"] == 1 for job in sweep["ids"])


def test_what_makes_no_sweep_is_refused_and_leaves_nothing(run):
    before = run.get("/v1/sweeps").json
    job = {"argv": ["true"]}
    for body, pointer in (
        ({"job": job}, "/grid"),
        ({"job": job, "grid": {"a": [1, 1]}}, "/grid"),
        ({"job": job, "grid": {"a": []}}, None),
        ({"job": job, "grid": {"a b": [1]}}, None),
        ({"job": job, "random": {"a": "log:0..1"}}, "/random/a"),
        ({"job": job, "random": {"a": "log:1e-5..1e-1"}}, "/trials"),
        ({"job": {**job, "array": "0-3"}, "grid": {"a": [1]}}, "/job/array"),
        ({"job": {**job, "gpus": 99}, "grid": {"a": [1]}}, None),
        ({"job": {**job, "cwd": "x"}, "grid": {"a": [1]}}, None),
        ({"job": job, "grid": {"a": [1, 2]}, "trials": 3}, "/grid"),
        ({"job": job, "grid": {f"p{n}": list(range(1000)) for n in range(3)}, "trials": 3}, "/grid"),
        ({"job": job, "grid": {"a": [1]}, "eta": 1}, None),
    ):
        answer = run.post("/v1/sweeps", body)
        assert answer.status == 422, (body, answer.data)
        assert pointer is None or answer.json["errors"][0]["pointer"] == pointer, answer.data
    assert run.get("/v1/sweeps").json == before
    assert run.get("/v1/sweeps/999").status == 404
    assert run.get("/v1/sweeps/x").status == 404
    assert run.get("/v1/sweeps?cursor=x").status == 400


def test_the_command_of_the_best_is_there_to_be_copied(run, tmp_path):
    """As on a terminal: the results, what was saved, and a line that runs the best again."""
    words = [PYTHON, "-m", "leptond.cli", "--no-color", "--host", f"unix://{run.socket}", "sweeps", "1"]
    shown = subprocess.run(
        ["script", "-qec", shlex.join(words), "/dev/null"],
        env={**os.environ, "COLUMNS": "200", "TERM": "dumb", "PYTHONPATH": SRC},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert shown[1].split()[0] == "1_2"
    assert any(line.startswith("2 of 4 trials were stopped early: ") for line in shown)
    assert "Best: 1_2, loss 0.25 at step 100000: loss=0.25" in shown
    assert shown[-1].startswith("leptonctl submit ")
    assert "--param loss=0.25" in shown[-1]
    assert shown[-1].endswith(" --loss=0.25")


async def test_from_python(run):
    job = {"argv": ["sh", "-c", "echo ::leptond step=1 loss={x}"]}
    with Client(f"unix://{run.socket}") as lept:
        made = lept.sweep(job, grid={"x": [1.5, 0.5]}, halving=False)
        over(run, made.id)
        assert lept.sweep_results(made.id).best.params == {"x": 0.5}
    async with AsyncClient(f"unix://{run.socket}") as lept:
        again = await lept.sweep(job, random={"x": "int:1..9"}, trials=3)
        assert [one["x"] for one in again.trials] == [
            one.params["x"] for one in (await lept.sweep_results(again.id)).trials
        ]
        over(run, again.id)
