"""The ledger on a real daemon: a run with everything in it adds up, and every door says the same."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from leptond.cli.commands import cost
from leptond.cli.framework.session import Session
from leptond.store.accounting import ledger
from tests.support.daemon import Daemon, until

RATES = {
    "LEPTOND_COST__PRICES": '{"Simulated": 3.6}',
    "LEPTOND_COST__SOURCE": "the test",
    "LEPTOND_COST__AS_OF": "2026-11-25",
    "LEPTOND_GPUS__SAMPLE_S": "0.2",
    "LEPTOND_QUEUE__POLICY": "firstfit",
    "LEPTOND_QUEUE__MAX_BYPASS_S": "0.1",
}


def seconds(daemon, box):
    """GPU-seconds of one box so far."""
    lines = daemon.get("/v1/usage").json["boxes"]
    return next(line["gpu_seconds"] for line in lines if line["box"] == box)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A daemon after a run in which jobs succeed, fail and resume, fail for good, time out and are
    cancelled, a GPU is drained, GPUs are kept for a wide job, and the daemon is killed and comes back."""
    daemon = Daemon(tmp_path_factory.mktemp("cost") / "state", "--simulate-gpus", "4", env=RATES)
    try:
        daemon.start()
        _everything(daemon)
        yield daemon
    finally:
        daemon.close()


def _everything(daemon):
    good = [daemon.submit("sleep", "0.5", gpus=1, project="vision") for _ in range(3)]
    flaky = daemon.submit(
        "sh", "-c", "sleep 0.3; test $LEPTOND_ATTEMPT = 2", gpus=1, retries=1, retry_delay_s=0.1
    )
    bad = daemon.submit("sh", "-c", "sleep 0.3; exit 3", gpus=1)
    again = ["sh", "-c", 'sleep 0.2; echo "ValueError: bad row $$"; exit 1']
    hopeless = daemon.submit(*again, gpus=1, retries=5, retry_delay_s=0.1)
    late = daemon.submit("sleep", "60", gpus=1, time_limit_s=0.5, grace_s=5)
    for job in (*good, flaky, bad, late):
        daemon.finished(job)
    ended = daemon.finished(hopeless)
    assert [attempt["retry"][:30] for attempt in ended["attempts"]][1:] == ["the same error twice in a row,"]
    assert ended["attempts"][1]["signature"] == "user, exit code 1: ValueError: bad row #"
    assert daemon.post("/v1/gpus/3/drain", {"reason": "fan"}).status == 200
    holder = daemon.submit("sh", "-c", "echo up; sleep 60", gpus=2)
    daemon.printed(holder, "up")
    wide = daemon.submit("sleep", "0.1", gpus=3)
    until(lambda: seconds(daemon, "frag") > 0.3, "a job that does not fit is seen")
    small = daemon.submit("sleep", "0.1", gpus=1)
    until(lambda: seconds(daemon, "fitidle") > 0.3, "a job that fits is kept waiting for it")
    daemon.kill()
    daemon.start()
    assert daemon.post(f"/v1/jobs/{holder}/cancel", {"grace_s": 5}).status == 202
    ended = [daemon.finished(job) for job in (holder, wide, small)]
    assert [job["state"] for job in ended] == ["cancelled", "succeeded", "succeeded"], ended[0]["attempts"]
    daemon.post("/v1/gpus/3/undrain")
    daemon.finished(daemon.submit("true", gpus=4))


def copy_of(state_dir: Path, to: Path) -> sqlite3.Connection:
    for file in state_dir.glob("leptond.db*"):
        shutil.copy(file, to)
    db = sqlite3.connect(to / "leptond.db", isolation_level=None)
    db.row_factory = sqlite3.Row
    return db


def test_every_gpu_second_of_a_real_run_is_in_one_box(run, tmp_path):
    found = run.get("/v1/usage").json
    boxes = {line["box"]: line["gpu_seconds"] for line in found["boxes"]}
    assert sum(boxes.values()) == pytest.approx(found["capacity_gpu_seconds"], abs=1e-6)
    for box in ("prod", "lost", "failed", "cancel", "stop", "gap", "fitidle", "frag", "empty", "out"):
        assert boxes[box] > 0, box
    assert boxes["prod"] >= 0.95 * 3 * 0.5  # a start is noted a moment after it
    causes = {(line["box"], cause["cause"]) for line in found["boxes"] for cause in line["causes"]}
    (reserved,) = (cause for box, cause in causes if box == "fitidle")
    assert re.fullmatch(r"kept for job [0-9]+", reserved)
    assert {("out", "drained: fan"), ("failed", "user"), ("failed", "timeout"), ("lost", "user")} <= causes
    db = copy_of(run.state_dir, tmp_path)
    begin, end = db.execute("SELECT min(at) FROM gpu_service UNION ALL SELECT max(at) FROM events").fetchall()
    assert ledger.imbalance_ms(db, begin[0], end[0]) == 0
    db.close()


def test_the_boxes_agree_with_the_attempts(run, tmp_path):
    """From the other side: what the attempts themselves say that they held, outside of drains."""
    boxes = {line["box"]: line["gpu_seconds"] for line in run.get("/v1/usage").json["boxes"]}
    db = copy_of(run.state_dir, tmp_path)
    held = db.execute(
        "SELECT sum((ended_at - started_at) * n_gpus) FROM attempts WHERE started_at IS NOT NULL"
    ).fetchone()[0]
    db.close()
    allocated = sum(boxes[box] for box in ("prod", "start", "lost", "failed", "cancel", "stop"))
    assert allocated == pytest.approx(held, abs=0.1), "jobs on the drained GPU had ended before"


def test_money_has_its_price_source_and_date(run):
    found = run.get("/v1/usage").json
    assert found["paid"] == pytest.approx(found["capacity_gpu_seconds"] * 3.6 / 3600)
    assert found["prices"] == [
        {
            "model": "Simulated GPU",
            "gpus": 4,
            "per_gpu_hour": 3.6,
            "currency": "USD",
            "source": "the test",
            "as_of": "2026-11-25",
        }
    ]
    assert found["energy"]["sources"] == ["simulated"]
    assert found["energy"]["cost"] is None, "no tariff, no cost"


@pytest.mark.parametrize(
    ("by", "keys"),
    [("user", None), ("project", {"vision", "-"}), ("gpu", {"0", "1", "2", "3"}), ("job", None)],
)
def test_groups_add_up_to_what_was_held(run, by, keys):
    found = run.get(f"/v1/usage?group_by={by}").json
    boxes = {line["box"]: line["gpu_seconds"] for line in found["boxes"]}
    held = sum(boxes[box] for box in ("prod", "start", "lost", "failed", "cancel", "stop"))
    assert sum(group["gpu_seconds"] for group in found["groups"]) == pytest.approx(held, abs=1e-6)
    assert keys is None or {group["key"] for group in found["groups"]} == keys


def test_retries_that_were_spared_are_a_line_of_the_report(run):
    memos = run.get("/v1/usage").json["memos"]
    assert memos["retries_saved"] == 4, "five were asked for, one was made"
    assert memos["retries_saved_gpu_seconds"] > 4 * 0.2
    assert "Failing fast spared 4 retries" in "\n".join(cost._sentences(run.get("/v1/usage").json))


def test_a_window_that_is_none_is_refused(run):
    for query in ("since=2999-01-01T00:00:00Z", "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z"):
        answer = run.get(f"/v1/usage?{query}")
        assert (answer.status, answer.json["type"]) == (422, "/problems/invalid")
    assert run.get("/v1/usage?group_by=colour").status == 422
    assert (
        run.get("/v1/usage?since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z").json["boxes"][0][
            "gpu_seconds"
        ]
        == 0
    )


def test_the_policy_is_compared_by_a_replay(run):
    found = run.get("/v1/usage?against=shortest").json["comparison"]
    assert (found["policy"], found["against"]) == ("firstfit", "shortest")
    assert found["jobs"] >= 8
    assert found["jct_s"] > 0
    assert run.get("/v1/usage").json["comparison"] is None
    assert run.get("/v1/usage?against=luck").status == 422


def test_prometheus_says_the_same(run):
    page = run.get("/metrics").data.decode()
    found = {
        (name, label): float(value)
        for name, label, value in re.findall(
            r'^(leptond_(?:gpu_seconds|cost)_total){(?:box|currency)="(\w+)"} (\S+)$', page, re.M
        )
    }
    assert len([name for name, _ in found if name == "leptond_gpu_seconds_total"]) == 11
    assert found["leptond_cost_total", "USD"] > 0
    assert "leptond_gpu_idle_allocated_seconds_total" in page
    assert page.count("leptond_gpu_energy_joules_total{") == 4


def leptonctl(daemon, *words):
    done = subprocess.run(
        [sys.executable, "-m", "leptond.cli", "--host", f"unix://{daemon.socket}", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_leptonctl_cost_in_a_pipe_and_as_json(run):
    rows = [line.split("\t") for line in leptonctl(run, "cost", "--by", "user").splitlines()]
    assert {row[0] for row in rows} == {
        "window",
        "box",
        "cause",
        "figure",
        "price",
        "group",
        "replay",
        "advice",
    }
    boxes = [row for row in rows if row[0] == "box"]
    assert len(boxes) == 11
    window = next(row for row in rows if row[0] == "window")
    assert sum(float(row[2]) for row in boxes) == pytest.approx(float(window[4]), rel=1e-4)
    found = json.loads(leptonctl(run, "cost", "--json", "--since", "2h"))
    assert found["currency"] == "USD"


def test_a_person_reads_prices_beside_amounts(run, capsys, monkeypatch):
    monkeypatch.setattr(Session, "table", True)
    found = run.get("/v1/usage?group_by=user&against=shortest").json
    cost._screen(Session(), found, "user")
    out = capsys.readouterr().out
    assert "3.6 USD a GPU-hour" in out
    assert "the test, 2026-11-25" in out
    assert "What would save most" in out
    assert "Replayed under firstfit and shortest" in out
    assert "The GPUs are simulated" in out
    assert re.search(r"^[0-9.]+% of the GPU time went into work that is kept, ", out, re.M)
    assert "e-0" not in out
    for line in found["boxes"]:
        word = cost._WORDS.get(line["box"], line["box"])
        assert bool(re.search(rf"^{word} +\S+ +[0-9.]+%", out, re.M)) == (line["gpu_seconds"] > 0), word
