"""`leptonctl gpus`, `drain` and `undrain`."""

from __future__ import annotations

import json

from leptond import schema
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import (
    Stub,
    make_gpu,
    plain,
)


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
