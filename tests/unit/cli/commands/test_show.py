"""The commands that look at jobs: what stands in a pipe, and in JSON."""

from __future__ import annotations

import json
from datetime import timedelta

from leptond import schema
from leptond.core.jobs.model import DependencyKind, FailureClass, JobSpec, Reason, State
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import (
    SUBMITTED_AT,
    Stub,
    ended,
    make_job,
    page,
    plain,
)

# -- show ----------------------------------------------------------------------------------------------


def test_show_tells_the_attempts_and_the_way_back(cli: Cli, stub: Stub):
    stub.on(
        "GET",
        "/v1/jobs/47",
        ended(
            State.FAILED,
            exit_code=1,
            explanation="failed with exit code 1",
            array_id=None,
            spec=JobSpec(argv=["/usr/bin/python3", "a b.py"], cwd="/home/ana", gpus=2, time_limit_s=3600.0),
            dependencies=[schema.Dependency(on_job_id=12, on_ref="12", kind=DependencyKind.ANY, state="met")],
            attempts=[
                schema.Attempt(
                    number=1,
                    id="a1",
                    state="ended",
                    claimed_at=SUBMITTED_AT,
                    signal="SIGKILL",
                    class_=FailureClass.OOM_HOST,
                    rule="cgroup-oom",
                    evidence=["oom_kill rose by 1"],
                    explanation="the host ran out of memory",
                    retry="again in 10 s",
                    gpus=[schema.AttemptGpu(uuid="GPU-1", index=1)],
                    gpu_seconds=7200,
                ),
                schema.Attempt(
                    number=2,
                    id="a2",
                    state="ended",
                    claimed_at=SUBMITTED_AT,
                    exit_code=1,
                    class_=FailureClass.USER,
                    explanation="failed with exit code 1",
                ),
            ],
        ),
    )
    use = schema.GpuUse(
        attempt=1,
        index=1,
        uuid="GPU-1",
        sampled_s=60.0,
        idle_s=6.0,
        max_utilization=0.9,
        max_memory_bytes=5,
        energy_kwh=0.001,
    )
    stub.on("GET", "/v1/jobs/47/gpus", [use, schema.GpuUse(attempt=2, index=0, uuid="GPU-0")])
    result = cli("show", "47")
    assert ["1", "1", "90%", "5", "6", "1.0 Wh"] in result.rows
    pairs = dict(row for row in result.rows if len(row) == 2)
    assert pairs["state"] == "failed"
    assert pairs["waits for"] == "12 (any, met)"
    assert pairs["submitted"] == "2026-03-04T10:00:00Z"
    assert [
        "1",
        "ended",
        "oom-host",
        "SIGKILL",
        "1",
        "-",
        "-",
        "2",
        "the host ran out of memory; again in 10 s",
    ] in (result.rows)
    assert "1: cgroup-oom: oom_kill rose by 1" in result.out
    assert result.out.splitlines()[-1] == (
        "leptonctl submit --name train.py --gpus 2 --time 1h --chdir /home/ana --export NONE"
        " -- /usr/bin/python3 'a b.py'"
    )
    assert "oom-host" not in cli("show", "47.2").out


def test_why_says_the_sentence_and_the_way_out(cli: Cli, stub: Stub):
    why = schema.Why(
        id=47,
        state=State.PENDING,
        reason=Reason.HELD,
        sentence="Held: held by ana",
        unblock="leptonctl release 47",
        waits_for=["45"],
    )
    stub.on("GET", "/v1/jobs/47/why", why)
    assert cli("why", "47").out.splitlines() == ["Held: held by ana", "leptonctl release 47", "waits for: 45"]
    assert json.loads(cli("why", "47", "--json").out) == plain(why)


# -- status, history, gpus -----------------------------------------------------------------------------


# -- events --------------------------------------------------------------------------------------------


# -- logs ----------------------------------------------------------------------------------------------


def test_show_has_the_contact(cli: Cli, stub: Stub):
    stub.job(id=47, contact="Ana, #night", project="p")
    assert ["contact", "Ana, #night"] in cli("show", "47").rows


def test_the_number_of_an_array_sums_it_up(cli: Cli, stub: Stub):
    member = make_job(id=47, ref="47_0", array_id=47, array_index=0, gpus=1)
    array = schema.Array(
        id=47,
        name="sweep",
        user="ana",
        counts={State.SUCCEEDED: 7, State.FAILED: 1, State.RUNNING: 2},
        held=0,
        never_start=0,
        first_failed="47_3",
    )
    for name in ("47", "47_0"):
        stub.on("GET", f"/v1/jobs/{name}", member)
    stub.on("GET", "/v1/arrays/47", array)
    stub.on("GET", "/v1/jobs", page(make_job(id=49, ref="47_2", array_id=47, array_index=2)))
    for name in ("47", "47_*", "@last", "sweep"):
        rows = dict(cli("show", name).rows)
        assert rows["array"].startswith("47 (10 members")
        assert (rows["state"], rows["failed"], rows["running"]) == ("8 of 10 have ended", "1", "2")
        assert rows["first that failed"] == "47_3: leptonctl show 47_3"
        assert rows["gpus each"] == "1"
    assert cli("show", "47_0").rows[0] == ["job", "47_0 (id 47)"]
    told = json.loads(cli("show", "47", "--json").out)
    assert (told["ref"], told["array"]["counts"]["failed"]) == ("47_0", 1)


def test_why_says_that_a_start_is_unknown(cli: Cli, stub: Stub):
    why = schema.Why(
        id=47,
        state=State.PENDING,
        reason=Reason.RESOURCES,
        sentence="Resources: needs 1 GPU, 0 free",
        starts_unknown="job 3 has no time limit and no history",
        bypass_until=SUBMITTED_AT,
        waits_for=["3"],
    )
    stub.on("GET", "/v1/jobs/47/why", why)
    out = cli("why", "47").out
    assert "starts: unknown: job 3 has no time limit and no history\n" in out
    assert "others may start before it until" in out
    assert "waits for: 3" in out


def test_why_names_a_time_once(cli: Cli, stub: Stub):
    for latest, named in ((SUBMITTED_AT, False), (SUBMITTED_AT + timedelta(hours=1), True)):
        why = schema.Why(
            id=47,
            state=State.PENDING,
            reason=Reason.RESOURCES,
            sentence="Resources: needs 1 GPU, 0 free",
            starts_at=SUBMITTED_AT,
            earliest_at=SUBMITTED_AT,
            latest_at=latest,
        )
        stub.on("GET", "/v1/jobs/47/why", why)
        out = cli("why", "47").out
        assert "starts: " in out
        assert ("between" in out) == named
