"""Jobs for other programs."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from pathlib import Path

import msgspec
import pytest

from leptond import schema
from leptond.cli.commands.export import COLUMNS
from leptond.core.jobs.model import State
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Stub, ended, make_job, page, problem


@pytest.fixture
def jobs(stub: Stub) -> list[schema.Job]:
    found = [
        ended(State.FAILED, id=3, name="=cmd|calc", exit_code=3),
        make_job(id=2, labels={"team": "ü, a"}),
        make_job(id=1),
    ]
    stub.on("GET", "/v1/jobs", page(*found[:2], cursor="2"), page(found[2]))
    return found


def test_csv(cli: Cli, jobs):
    done = cli("export")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["id"] for row in rows] == ["3", "2", "1"]
    assert list(rows[0]) == list(COLUMNS)
    assert rows[0]["name"] == "'=cmd|calc", "no formula for a spreadsheet"
    assert rows[0]["exit_code"] == "3"
    assert json.loads(rows[1]["labels"]) == {"team": "ü, a"}


def test_json_lines_are_the_apis_objects(cli: Cli, jobs, tmp_path: Path):
    out = tmp_path / "jobs.jsonl"
    assert cli("export", "--json-lines", "-o", str(out)).code == 0
    lines = out.read_text().splitlines()
    assert [msgspec.json.decode(line, type=schema.Job) for line in lines] == jobs


def test_parquet(cli: Cli, jobs, tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
    out = tmp_path / "jobs.parquet"
    assert cli("export", "--parquet", "-o", str(out)).code == 0
    table = parquet.read_table(out)
    assert table.column("id").to_pylist() == [3, 2, 1]
    assert str(table.schema.field("submitted_at").type).startswith("timestamp")


def test_a_fifo_is_written_to_and_stays_one(cli: Cli, jobs, tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert cli("export", "--json-lines", "-o", str(pipe)).code == 0
    reader.join(60)
    assert len(read[0].splitlines()) == 3
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir() if "pipe" in path.name] == ["pipe"]


def test_a_file_is_whole_or_not_there(cli: Cli, stub: Stub, tmp_path: Path):
    out = tmp_path / "jobs.csv"
    out.write_text("before")
    stub.on("GET", "/v1/jobs", page(make_job(id=1), cursor="1"), problem(422, "a bad cursor"))
    assert cli("export", "-o", str(out)).code == 1
    assert out.read_text() == "before"
    assert list(tmp_path.glob(".jobs*")) == []


def test_parquet_wants_a_file(cli: Cli):
    done = cli("export", "--parquet")
    assert done.code == 2
    assert "-o" in done.err


def test_usage_is_a_row_for_each_that_had_gpu_time(cli: Cli, stub: Stub):
    group = {"key": "ana", "jobs": 2, "gpu_seconds": 7200.0, "productive_gpu_seconds": 7000.0, "cost": 4.5}
    window = {"since": "2026-03-01T00:00:00Z", "until": "2026-03-04T00:00:00Z", "currency": "USD"}
    stub.on("GET", "/v1/usage", {**window, "groups": [group]})
    done = cli("export", "--usage", "user", "--since", "2026-03-01")
    assert done.code == 0, done.err
    (row,) = csv.DictReader(io.StringIO(done.out))
    assert (row["key"], row["gpu_seconds"], row["cost"], row["currency"]) == ("ana", "7200.0", "4.5", "USD")
    assert row["until"] == window["until"]
    assert stub.asked[-1].query["group_by"] == "user"
    assert json.loads(cli("export", "--json-lines", "--usage", "user").out)["jobs"] == 2
    assert cli("export", "--usage", "user", "--state", "failed").code == 2


def test_a_column_that_is_new_comes_last(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs", page(make_job(id=47, contact="Ana, #night")))
    head, row = csv.reader(io.StringIO(cli("export").out))
    assert (head[0], head[-1]) == ("id", "contact")
    assert dict(zip(head, row, strict=True))["contact"] == "Ana, #night"
