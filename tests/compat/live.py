"""What a real daemon answers: commands with ``--json``, errors, the OpenAPI document, metrics, what a job
finds in its environment, tables and files, after a fixed small scenario on simulated GPUs."""

from __future__ import annotations

import getpass
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from leptond import __version__
from tests.support.daemon import Daemon

TOP = Path(__file__).parents[2]
ENVIRONMENT = {
    "LEPTOND_GPUS__SIMULATE_MODEL": "NVIDIA H100 80GB",
    "LEPTOND_QUEUE__CPU_SLOTS": "4",
    "LEPTOND_HTTP__JOB_METRICS": "true",
}
TRIAL = "echo ::leptond step=3 total=9 loss={lr}"
COMMANDS = {
    "status": "status",
    "queue": "queue",
    "history": "history",
    "show": "show 1",
    "show, running": "show runs",
    "why": "why waits",
    "gpus": "gpus",
    "queues": "queues",
    "limits": "limits",
    "budget": "budget",
    "plan": "plan",
    "cost": "cost --by user",
    "events": "events --limit 1000",
    "sweeps": "sweeps",
    "sweeps, one": "sweeps 6",
    "export": "export --json-lines",
    "bad usage": "export --no-such-option",
    "estimate": "submit --dry-run --gpus 1 -- true",
    "submit": "submit --hold -n more -- true",
    "submit, array": "submit --hold --array 0-1 -n array -- true",
    "edit": "edit held --priority 3",
    "release": "release more",
    "retry": "retry 2",
    "cancel": "cancel held",
    "wait": "wait 1",
    "drain": "drain 3",
    "undrain": "undrain 3",
    "db info": "db info",
    "purge": "purge --dry-run --older-than 30d",
    "no such job": "show 999",
    "a wrong state": "cancel 1",
    "a mistake": "submit --gpus -1 -- true",
    "impossible": "submit --gpus 99 -- true",
}
"""Commands by the names of their snapshots."""
TABLES = {
    name: COMMANDS[name]
    for name in ("queue", "history", "gpus", "queues", "limits", "budget", "plan", "sweeps")
}
"""Lists whose column heads are kept as well."""
CSV = {"export": "export --csv", "export, usage": "export --csv --usage user"}
"""Exports whose column heads are kept."""
SET = {
    "amount",
    "grace_s",
    "half_life_s",
    "max_handicap_s",
    "max_time_limit_s",
    "no_progress_s",
    "retry_delay_s",
    "retry_max_delay_s",
    "time_limit_s",
    "weight",
}
"""Numbers with a point that are set, not measured."""
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z?")
HEX = re.compile(r"[0-9a-f]{16,}")
MADE_UP = {"pid", "uuid", "log_bytes", "free_bytes", "bytes", "sqlite_version"}
"""Keys whose values say nothing of the interface."""


def collect() -> dict[str, Any]:
    """All of it, by part."""
    with tempfile.TemporaryDirectory(prefix="compat") as place:
        home = Path(place)
        daemon = Daemon(home / "state", "--simulate-gpus", "4", env=ENVIRONMENT, executed=True)
        daemon.start()
        try:
            _scenario(daemon, home)
            found = {
                "json": {name: _command(daemon, home, f"--json {line}") for name, line in COMMANDS.items()},
                "columns": {name: _columns(daemon, home, COMMANDS[name], "\t") for name in TABLES}
                | {name: _columns(daemon, home, line, ",") for name, line in CSV.items()},
                "openapi": daemon.get("/v1/openapi.json").json,
                "metrics": metrics(daemon.get("/metrics").data.decode()),
                "environment": sorted(daemon.output(1).split()),
            }
            found["openapi"]["info"]["version"] = "VERSION"
            for operation in _operations(found["openapi"]):
                operation["parameters"] = {one["name"]: one for one in operation.pop("parameters", [])}
            found["json"]["events"]["out"]["items"].sort(key=_order)
        finally:
            daemon.close()
        found["files"] = _files(home / "state")
        found["tables"] = tables(home / "state" / "leptond.db")
        return {name: _plain(value, home) for name, value in found.items()}


def _scenario(daemon: Daemon, home: Path) -> None:
    """Jobs 1 to 10 in known states."""
    own = {"cwd": "/", "env": {"PATH": "/usr/bin:/bin"}}
    limits = {"retries": 1, "time_limit_s": 3600, "no_progress_s": 1800}
    names = "env | sed 's/=.*//' | grep -vE '^(_|PWD|OLDPWD|SHLVL)$'"
    spec = {"name": "good", "project": "vision", "labels": {"team": "a"}, "track": ["wandb", "tensorboard"]}
    good = daemon.submit("/bin/sh", "-c", names, gpus=1, params={"lr": 0.1}, **spec, **limits, **own)
    daemon.finished(good)
    daemon.finished(daemon.submit("/bin/sh", "-c", "echo no >&2; exit 7", name="bad", **own))
    array = daemon.submit("/bin/true", array="0-2", name="members", **own)
    for member in range(array, array + 3):
        daemon.finished(member)
    trial = {"argv": ["/bin/sh", "-c", TRIAL], "name": "trial", **own}
    sweep = daemon.post("/v1/sweeps", {"job": trial, "grid": {"lr": [0.1, 0.2]}, "halving": False}).json
    daemon.finished(sweep["id"])
    daemon.finished(sweep["id"] + 1)
    runs = daemon.submit("/bin/sh", "-c", "echo up; exec sleep 600", name="runs", gpus=2, **limits, **own)
    daemon.printed(runs, "up")
    daemon.submit("/bin/true", name="held", hold=True, after=[str(runs)], **own)
    daemon.submit("/bin/true", name="waits", gpus=3, **own)
    for line in (
        "queues add night --gpus 3 --max-time 12h",
        "limits set user ana --max-gpus 4",
        "budget user:ana --amount 500 --per month",
    ):
        done = _run(daemon, home, line)
        assert done.returncode == 0, done.stderr


def _run(daemon: Daemon, home: Path, line: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "TZ": "UTC",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(TOP),
        "LEPTOND_HOST": f"unix://{daemon.socket}",
    }
    return subprocess.run(
        [sys.executable, "-m", "leptond.cli", *line.split()],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _command(daemon: Daemon, home: Path, line: str) -> dict[str, Any]:
    done = _run(daemon, home, line)
    try:
        out: Any = json.loads(done.stdout)
    except ValueError:
        out = [json.loads(one) if one.startswith("{") else one for one in done.stdout.splitlines()]
    return {"exit code": done.returncode, "out": out, "messages": done.stderr.splitlines()}


def _columns(daemon: Daemon, home: Path, line: str, separator: str) -> list[str]:
    """The heads of a table in a pipe."""
    return _run(daemon, home, line).stdout.partition("\n")[0].split(separator)


def metrics(text: str) -> dict[str, Any]:
    """Type, help and labels of each metric."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        kind = re.fullmatch(r"# (HELP|TYPE) (\S+) (.*)", line)
        sample = re.match(r"([a-z_]+)(\{.*\})? ", line)
        if kind is not None:
            found.setdefault(kind[2], {"labels": []})[kind[1].lower()] = kind[3]
        elif sample is not None:
            name = next(
                name
                for name in (sample[1], re.sub("_(bucket|sum|count|total|created)$", "", sample[1]))
                if name in found
            )
            labels = {*found[name]["labels"], *re.findall(r'(\w+)="', sample[2] or "")}
            found[name]["labels"] = sorted(labels)
    return found


def tables(database: Path) -> dict[str, list[str]]:
    """The columns of each table."""
    db = sqlite3.connect(database)
    try:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: [f"{row[1]} {row[2]}" for row in db.execute(f"PRAGMA table_info({name})")]
            for name in sorted(names)
        }
    finally:
        db.close()


def _files(state: Path) -> list[str]:
    """The names of what is in the state directory, with N for every number."""
    found = (path.relative_to(state) for path in state.rglob("*"))
    return sorted({"/".join(re.sub(r"^\d+$", "N", part) for part in path.parts) for path in found})


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations of an OpenAPI document, whose parameters have no order that means anything."""
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def _order(event: dict[str, Any]) -> tuple[str, int, str]:
    """Where an event belongs in a list: jobs that run side by side take turns as they like."""
    event["id"] = 0
    return str(event["type"]), int(event["job_id"] or 0), json.dumps(event["data"], sort_keys=True)


def _plain(value: Any, home: Path, key: str = "") -> Any:
    """The same without what is of this run, machine or user alone."""
    if isinstance(value, dict):
        return {name: _plain(inner, home, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(item, home, key) for item in value]
    if value is None or isinstance(value, bool):
        return value
    random = isinstance(value, str) and HEX.fullmatch(value) is not None
    if key in MADE_UP or random or (isinstance(value, float) and key not in SET):
        return f"<{type(value).__name__}>"
    if isinstance(value, str):
        text = value.replace(str(home), "HOME").replace(sys.executable, "PYTHON")
        text = text.replace(__version__, "VERSION")
        return TIME.sub("TIME", re.sub(rf"\b{re.escape(getpass.getuser())}\b", "USER", text))
    return value


if __name__ == "__main__":
    os.umask(0o022)
    print(json.dumps(collect()))
