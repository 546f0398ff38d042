"""`leptonctl status`."""

from __future__ import annotations

import json

from leptond.core.jobs.model import State
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import (
    RUNNING,
    Stub,
    ended,
    make_gpu,
    make_job,
    make_status,
    plain,
)


def test_status_in_a_pipe_says_what_each_line_is(cli: Cli, stub: Stub):
    status = make_status(
        running=[make_job(id=45, **RUNNING)],
        next=[make_job(id=47)],
        failed_recently=[ended(State.FAILED, id=40, exit_code=1)],
        gpus=[make_gpu(0, job_id=45), make_gpu(1, drained=True, drain_reason="fan", schedulable=False)],
        warnings=["the disk is full"],
    )
    stub.on("GET", "/v1/status", status)
    result = cli("status")
    assert result.code == 0
    kinds = [row[0] for row in result.rows]
    assert [k for k in kinds if k != "count"] == [
        "gpu", "gpu", "running", "next", "failed", "daemon", "warning", "well",
    ]  # fmt: skip
    assert result.rows[1][-1] == "drained: fan"
    assert result.rows[3][-1] == "Resources: needs 4 GPUs, 1 free"
    assert result.rows[-1] == ["well", "no"]
    assert json.loads(cli("status", "--json").out) == plain(status)


def test_status_of_an_idle_machine_is_well(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/status", make_status())
    assert cli("status").rows[-1] == ["well", "yes"]
