"""The metrics, and the dashboard and the alert rules that read them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from leptond.base.paths import data_dir
from leptond.cli import main
from tests.support.daemon import Daemon

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="the rules are checked by promtool (Debian: apt-get install prometheus)"
)
OF_PROMETHEUS = {"up"}
"""What Prometheus itself adds."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon under which a job ended well, one was tried twice and failed, and one runs."""
    place = tmp_path_factory.mktemp("monitoring")
    facts = {
        "temperature_c": 40.0,
        "power_w": 90.0,
        "energy_j": 5.0,
        "utilization": 0.5,
        "memory_used_bytes": 1,
    }
    (place / "gpus.json").write_text(json.dumps({"devices": {"0": facts, "1": facts}}))
    env = {"LEPTOND_HTTP__JOB_METRICS": "true", "LEPTOND_GPUS__STATE_FILE": str(place / "gpus.json")}
    daemon = Daemon(place / "state", "--simulate-gpus", "2", env=env)
    daemon.start()
    well = daemon.submit("true", gpus=1)
    bad = daemon.submit("sh", "-c", "exit 3", retries=1, retry_delay_s=0)
    daemon.finished(well)
    daemon.finished(bad)
    daemon.reached(daemon.submit("sleep", "600", gpus=1, name="long"), "running")
    daemon.submit("true", gpus=2)
    yield daemon
    daemon.close()


def samples(daemon: Daemon) -> dict[str, list[Any]]:
    """Every sample of /metrics, by its name."""
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(daemon.get("/metrics").data.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def test_what_happened_is_counted(run):
    found = samples(run)
    ended = {one.labels["outcome"]: one.value for one in found["leptond_jobs_finished_total"]}
    assert (ended["succeeded"], ended["failed"], ended["lost"]) == (1, 1, 0)
    assert {one.labels["cause"]: one.value for one in found["leptond_job_retries_total"]} == {"user": 1}
    assert found["leptond_preemptions_total"][0].value == 0
    assert found["leptond_job_wait_seconds_count"][0].value == 3, "first starts: those of three jobs"
    assert found["leptond_job_run_seconds_count"][0].value == 3, "ends of attempts: of one and of two"
    assert found["leptond_scheduler_tick_seconds_count"][0].value > 0
    assert found["leptond_db_commit_seconds_count"][0].value > 0
    (info,) = found["leptond_running_job_info"]
    assert (info.labels["name"], info.value) == ("long", 1)
    assert {info.labels["gpu"]} <= {"0", "1"}
    assert samples(run)["leptond_job_run_seconds_count"][0].value == 3, "nothing is counted twice"


def test_jobs_are_named_only_where_that_is_asked_for(shared_daemon):
    job = shared_daemon.submit("sleep", "600", gpus=1)
    shared_daemon.reached(job, "running")
    assert "leptond_running_job_info" not in samples(shared_daemon)
    shared_daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0})
    shared_daemon.finished(job)


def expressions() -> dict[str, str]:
    """Every expression that is shipped, by where it stands."""
    board = json.loads((data_dir("monitoring") / "grafana.json").read_text())
    found = {
        f"panel {panel['title']}, {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel["targets"]
    }
    rules = (data_dir("monitoring") / "alerts.yml").read_text()
    for name, expr in re.findall(r"alert: (\w+)\n +expr: (.*?)\n +(?:for|labels):", rules, re.DOTALL):
        found[f"alert {name}"] = expr
    return found


def test_the_dashboard_and_the_rules_ask_for_what_is_exported(run):
    exported = samples(run)
    labels = {name: {label for one in some for label in one.labels} for name, some in exported.items()}
    asked = expressions()
    assert len([name for name in asked if name.startswith("alert")]) >= 5
    for where, expr in asked.items():
        names = re.findall(r"(?<![\w\"=~|])([a-z_]+)(?=\{|\[| [=<>/]|$|\))", expr)
        used = {name for name in names if name.startswith("leptond_") or name in OF_PROMETHEUS}
        assert used, f"{where}: {expr}"
        assert used - OF_PROMETHEUS <= set(exported), where
        for name, matchers in re.findall(r"(leptond_\w+)\{([^}]*)\}", expr):
            wanted = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", matchers)) - {"instance"}
            assert wanted <= labels.get(name, wanted), f"{where}: {name} has {labels.get(name)}"
        legend = set(re.findall(r"by \(([^)]*)\)", expr))
        for label in {part.strip() for group in legend for part in group.split(",")} - {"instance"}:
            assert any(label in labels.get(name, set()) for name in used), f"{where}: no label {label}"


@needs_promtool
def test_promtool_finds_no_fault_in_the_metrics(run):
    page = run.get("/metrics").data
    done = subprocess.run(
        [str(PROMTOOL), "check", "metrics"], input=page, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


@needs_promtool
def test_each_alert_fires_when_it_should(tmp_path: Path):
    shutil.copy(data_dir("monitoring") / "alerts.yml", tmp_path)
    shutil.copy(Path(__file__).parent / "alerts.test.yml", tmp_path)
    named = set(re.findall(r"alert: (\w+)", (tmp_path / "alerts.yml").read_text()))
    assert named == set(re.findall(r"alertname: (\w+)", (tmp_path / "alerts.test.yml").read_text()))
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", "alerts.test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("what", "file"), [("scrape", "scrape.yml"), ("alerts", "alerts.yml"), ("dashboard", "grafana.json")]
)
def test_the_files_are_printed(capfd, monkeypatch, what, file):
    monkeypatch.setattr("sys.argv", ["leptonctl", "monitoring", what])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert capfd.readouterr().out == (data_dir("monitoring") / file).read_text()
