"""The commands that look at jobs: what stands in a pipe, and in JSON."""

from __future__ import annotations

import io
import json
import sys
from datetime import timedelta

import msgspec

from leptond import schema
from leptond.core.jobs.model import DependencyKind, FailureClass, JobSpec, Reason, State
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import (
    SUBMITTED_AT,
    Answer,
    Stub,
    ended,
    make_gpu,
    make_job,
    make_status,
    page,
    problem,
    sse,
)

RUNNING = {
    "state": State.RUNNING,
    "started_at": SUBMITTED_AT,
    "gpu_indices": [0, 1],
    "gpus": 2,
    "time_limit_s": 3600.0,
    "attempt": 1,
}


def plain(value: object) -> object:
    return json.loads(msgspec.json.encode(value))


def test_queue_in_a_pipe_has_tabs_and_loses_nothing(cli: Cli, stub: Stub):
    long = "x" * 300
    stub.on("GET", "/v1/jobs", page(make_job(id=45, **RUNNING), make_job(id=47, reason_detail=long)))
    result = cli("queue")
    assert result.code == 0
    assert result.rows[0] == [
        "ID",
        "NAME",
        "USER",
        "GPUS",
        "PRI",
        "STATE",
        "TIME",
        "LIMIT",
        "STARTS",
        "REASON",
    ]
    assert result.rows[1][:6] == ["45", "train.py", "ana", "0,1", "0", "running"]
    assert result.rows[1][7:] == ["3600", "-", "-"]
    assert float(result.rows[1][6]) > 0
    assert result.rows[2][3:6] == ["1", "0", "pending"]
    assert result.rows[2][9] == f"Resources: {long}"
    assert cli("ps", "--no-header").rows[0][0] == "45"


def test_queue_asks_for_the_queue_in_its_order(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs", page())
    cli("queue", "--user", "bo", "--label", "a=b", "--array", "47", "-n", "3")
    assert stub.asked[-1].query == {
        "state": "pending,starting,running,stopping",
        "user": "bo",
        "label": "a=b",
        "array": "47",
        "order": "queue",
        "limit": "3",
    }


def test_an_empty_queue_teaches_the_first_submit(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs", page())
    result = cli("queue")
    assert len(result.rows) == 1
    assert "leptonctl submit --gpus 1" in result.err


def test_json_before_and_behind_the_command_is_the_apis_object(cli: Cli, stub: Stub):
    job = stub.job(name="it")
    for words in (["--json", "show", "47"], ["show", "--json", "47"], ["show", "47", "--json"]):
        result = cli(*words)
        assert json.loads(result.out) == plain(job)
        assert result.err == ""


def test_json_of_an_error_is_the_problem(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/9", problem(404, "there is no job 9", hint="look"))
    result = cli("show", "9", "--json")
    assert result.code == 3
    assert json.loads(result.out)["detail"] == "there is no job 9"
    assert "there is no job 9" in result.err


def test_json_when_there_is_no_daemon_is_a_problem_too(cli: Cli):
    result = cli("--json", "status")
    assert result.code == 69
    assert json.loads(result.out)["type"] == "/problems/unreachable"
    assert "leptonctl doctor" in result.err


def test_the_host_is_an_option_a_variable_or_a_usage_error(cli: Cli, stub: Stub, monkeypatch):
    stub.on("GET", "/v1/status", make_status())
    assert cli("status", "--host", f"unix://{stub.path}").code == 0
    assert cli("--host", "nonsense", "status").code == 2
    monkeypatch.setenv("LEPTOND_HOST", "unix:///nowhere")
    result = cli("status")
    assert (result.code, result.out) == (69, "")
    assert "unix:/nowhere (no such file)" in result.err


def test_verbose_shows_the_requests(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/status", make_status())
    assert "GET unix:" in cli("-v", "status").err


def test_names_cannot_steer_the_terminal(cli: Cli, stub: Stub):
    evil = make_job(name="a\x1b]0;pwned\x07b\tc\nd\u202ee", user="\x9b2J", reason_detail="x\ry")
    stub.on("GET", "/v1/jobs", page(evil))
    result = cli("queue", "--no-header")
    assert result.out.count("\n") == 1
    assert result.rows[0][1:3] == ["a]0;pwnedb c de", "2J"]
    # JSON escapes what is not ASCII
    assert cli("queue", "--json").out.isascii()


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


def test_a_job_is_also_known_by_its_name_and_as_the_last(cli: Cli, stub: Stub):
    stub.job(id=51)
    stub.on("GET", "/v1/jobs", page(make_job(id=51)))
    assert cli("show", "train.py").rows[0] == ["job", "51"]
    assert cli("show", "@last").rows[0] == ["job", "51"]
    stub.on("GET", "/v1/jobs", page(make_job(id=51), make_job(id=52)))
    several = cli("show", "train.py")
    assert several.code == 1
    assert "51, 52" in several.err
    stub.on("GET", "/v1/jobs", page())
    assert cli("show", "nobody").code == 3
    assert cli("show", "47_*").code == 1


# -- status, history, gpus -----------------------------------------------------------------------------


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


def test_history_is_of_the_ended_newest_first(cli: Cli, stub: Stub):
    job = ended(State.TIMED_OUT, signal="SIGTERM", gpu_seconds=5400.0, attempt=2)
    stub.on("GET", "/v1/jobs", page(job))
    result = cli("history", "--since", "2026-03-01T00:00:00Z", "--state", "timed_out", "-n", "5")
    assert stub.asked[-1].query == {
        "state": "timed_out",
        "since": "2026-03-01T00:00:00Z",
        "order": "newest",
        "limit": "5",
    }
    row = dict(zip(*result.rows, strict=True))
    assert (row["EXIT"], row["TRIES"], row["GPU-H"], row["TIME"]) == ("SIGTERM", "2", "1.5", "4.500")
    assert row["ENDED"] == "2026-03-04T10:00:00Z"


def test_gpus_say_who_has_them(cli: Cli, stub: Stub):
    stranger = schema.GpuProcess(pid=4121, name="python", memory_bytes=1)
    gpus = schema.GpuList(items=[make_gpu(0, job_id=45, processes=[stranger])], backend="nvml")
    stub.on("GET", "/v1/gpus", gpus)
    row = dict(zip(*cli("gpus").rows, strict=True))
    assert row["MEMORY"] == f"{1 << 30}/{80 << 30}"
    assert (row["UTIL"], row["TEMP"], row["JOB"], row["STATE"]) == ("50%", "41", "45", "busy")
    assert (row["UUID"], row["FOREIGN"]) == ("GPU-0", "pid 4121 python")
    linked = make_gpu(1, numa_node=0, links={make_gpu(0).uuid: "NV4", make_gpu(2).uuid: "SYS"})
    stub.on("GET", "/v1/gpus", schema.GpuList(items=[make_gpu(0), linked, make_gpu(2)], backend="nvml"))
    head, _, second, _ = cli("gpus").rows
    row = dict(zip(head, second, strict=True))
    assert (row["NUMA"], row["LINKS"]) == ("0", "NV4:0 SYS:2")
    stub.on("GET", "/v1/gpus", schema.GpuList(items=[], backend="none", note="no driver"))
    assert "no driver" in cli("gpus").err


def test_drain_and_undrain_several(cli: Cli, stub: Stub):
    drained = make_gpu(1, drained=True, drain_reason="fan", schedulable=False, job_id=45)
    stub.on("POST", "/v1/gpus/1/drain", drained)
    stub.on("POST", "/v1/gpus/1/undrain", make_gpu(1))
    assert cli("drain", "1", "--reason", "fan").out == "GPU 1: drained: fan; job 45 goes on there\n"
    assert stub.asked[-1].body == {"reason": "fan"}
    assert cli("undrain", "1").out == "GPU 1: free\n"
    assert json.loads(cli("drain", "1", "--json").out) == plain(drained)
    assert cli("drain", "x").code == 2


# -- events --------------------------------------------------------------------------------------------


def event(number: int, kind: str = "job.state", **data: object) -> schema.Event:
    at = SUBMITTED_AT + timedelta(seconds=number)
    return schema.Event(id=number, at=at, type=kind, job_id=47, attempt=1, data=dict(data))


def test_events_are_lines_and_pages_are_joined(cli: Cli, stub: Stub):
    def answer(asked):
        if asked.query["since"] == "5":
            return schema.EventPage(
                items=[event(6, **{"from": "pending", "to": "starting"})], next_cursor="6"
            )
        return schema.EventPage(items=[event(7, "job.edited", priority=3)])

    stub.on("GET", "/v1/events", answer)
    assert cli("events", "--since", "5").rows == [
        ["6", "2026-03-04T10:00:06Z", "job.state", "47.1", "pending -> starting"],
        ["7", "2026-03-04T10:00:07Z", "job.edited", "47.1", "priority=3"],
    ]


def test_events_alone_are_the_last_ones(cli: Cli, stub: Stub):
    def answer(asked):
        if "text/event-stream" in asked.headers["accept"]:
            return sse(("hello", {"last_event_id": 120}))
        return schema.EventPage(items=[event(120)])

    stub.on("GET", "/v1/events", answer)
    assert len(cli("events").rows) == 1
    assert stub.asked[-1].query["since"] == "70"


def test_events_are_followed_one_json_a_line(cli: Cli, stub: Stub):
    other = msgspec.structs.replace(event(9), job_id=50)
    stub.job()
    stub.on(
        "GET",
        "/v1/events",
        sse(
            ("hello", {"last_event_id": 7}),
            ("job.state", event(8), "8"),
            ("job.state", other, "9"),
            ("end", {}),
        ),
    )
    result = cli("events", "-f", "--job", "47", "--json")
    assert [json.loads(line)["id"] for line in result.out.splitlines()] == [8]


# -- logs ----------------------------------------------------------------------------------------------


def log(text: bytes, **headers: object) -> Answer:
    named = {f"X-Log-{name.replace('_', '-')}": str(value) for name, value in headers.items()}
    return Answer(pieces=[text[:3], text[3:]], headers=named)


def test_logs_come_in_parts_and_lose_what_steers_the_terminal(cli: Cli, stub: Stub):
    stub.on(
        "GET",
        "/v1/jobs/47/log",
        log("a\x1b[31mé\x1b[2J".encode(), Attempt=2, Size=14, Next_Offset=10, Dropped=0),
        log(b"b\r\n\x07c\t", Attempt=2, Size=99, Next_Offset=15, Dropped=0),
    )
    result = cli("logs", "47", "-n", "5")
    assert result.out == "aéb\r\nc\t"
    assert [asked.query for asked in stub.asked] == [{"tail": "5"}, {"attempt": "2", "offset": "10"}]


def test_raw_logs_are_the_bytes(cli: Cli, stub: Stub, monkeypatch):
    stub.on("GET", "/v1/jobs/47/log", log(b"\xff\x1b[2J\x00", Attempt=1, Size=6, Next_Offset=6, Dropped=0))
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
    cli("logs", "47.1", "--raw")
    assert out.getvalue() == b"\xff\x1b[2J\x00"
    assert stub.asked[-1].query == {"attempt": "1"}


def test_logs_as_json(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/47/log", log(b"abc\n", Attempt=1, Size=4, Next_Offset=4, Dropped=9))
    assert json.loads(cli("logs", "47", "--json").out) == {
        "ref": "47",
        "attempt": 1,
        "size_bytes": 4,
        "next_offset": 4,
        "dropped_bytes": 9,
        "text": "abc\n",
    }


def test_followed_logs_go_through_attempts_and_gaps(cli: Cli, stub: Stub):
    stub.on(
        "GET",
        "/v1/jobs/47/log/stream",
        sse(
            ("log.attempt", {"number": 1}, "1:0"),
            ("log.chunk", {"attempt": 1, "offset": 0, "text": "one\n"}, "1:4"),
            ("log.gap", {"attempt": 1, "dropped_bytes": 2048, "next_offset": 2052}),
            ("log.attempt", {"number": 2}, "2:0"),
        ),
        sse(
            ("log.attempt", {"number": 2}, "2:0"),
            ("log.chunk", {"attempt": 2, "offset": 0, "text": "two\n"}, "2:4"),
            ("end", {"state": "succeeded"}),
        ),
    )
    result = cli("logs", "-f", "47")
    assert result.out == "one\ntwo\n"
    assert result.err.count("-- attempt 2 --") == 1
    assert "2 KiB of output were not kept" in result.err
    assert "lost" in result.err


def test_logs_that_are_cut_off_are_not_passed_off_as_whole(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/47/log", Answer(pieces=[b"abc"], headers={"Content-Length": "9"}))
    result = cli("logs", "47")
    assert (result.code, result.out) == (69, "abc")
    assert "6 bytes are missing" in result.err


def test_logs_of_a_job_that_has_not_started(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/47/log", problem(404, "job 47 has not started yet"))
    result = cli("logs", "47")
    assert result.code == 3
    assert "has not started" in result.err
