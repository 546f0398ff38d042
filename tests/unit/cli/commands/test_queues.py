"""`leptonctl queues` and `limits`: what they ask for and how they show it."""

import pytest

from leptond import schema
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Stub


def queue(**changes) -> schema.Queue:
    given = {
        "name": "fast",
        "state": "open",
        "weight": 2.0,
        "default_priority": 0,
        "default_time_limit_s": None,
        "max_time_limit_s": 3600.0,
        "max_gpus": None,
        "users": ["ana", "bo"],
        "borrow": True,
        "lend": "all",
        "gpus": [schema.QueueGpu(uuid="GPU-1", index=1), schema.QueueGpu(uuid="GPU-9")],
        "pending": 3,
        "running": 2,
        "running_gpus": 1.5,
        "used_gpu_s": 7200.0,
        "version": 1,
    }
    return schema.Queue(**{**given, **changes})


def test_queues_are_listed(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/queues", schema.QueueList(items=[queue()]))
    row = dict(zip(*cli("queues").rows, strict=True))
    assert (row["QUEUE"], row["WEIGHT"], row["GPUS"], row["OWNS"]) == ("fast", "2", "1.5", "1,GPU-9")
    assert (row["BORROW"], row["MAX"], row["LIMIT"], row["USERS"]) == ("yes", "-", "3600", "ana,bo")


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["--weight", "2", "--gpus", "0,GPU-2"], {"weight": 2.0, "gpus": ["0", "GPU-2"]}),
        (["--gpus", "none", "--users", "all"], {"gpus": [], "users": []}),
        (["--lend", "none", "--no-borrow"], {"lend": "none", "borrow": False}),
        (["--time", "2h", "--max-time", "none"], {"default_time_limit_s": 7200.0, "max_time_limit_s": None}),
        (["--max-gpus", "0", "--users", "ana,bo"], {"max_gpus": 0, "users": ["ana", "bo"]}),
    ],
)
def test_what_is_named_is_sent_and_nothing_else(cli: Cli, stub: Stub, words, body):
    stub.on("PATCH", "/v1/queues/fast", queue())
    assert cli("queues", "set", "fast", *words).out == "Queue fast changed\n"
    assert stub.asked[-1].body == body
    stub.on(
        "POST", "/v1/queues", schema.Queue(**{f: getattr(queue(), f) for f in schema.Queue.__struct_fields__})
    )
    assert cli("queues", "add", "fast", *words).out == "Queue fast added\n"
    assert stub.asked[-1].body == {"name": "fast", **body}


def test_mistakes_are_usage_errors(cli: Cli):
    assert cli("queues", "set", "fast").code == 2
    assert cli("queues", "set", "fast", "--max-gpus", "many").code == 2
    assert cli("queues", "set", "fast", "--time", "soon").code == 2
    assert cli("limits", "set", "user", "ana").code == 2
    assert cli("limits", "set", "queue", "ana", "--max-gpus", "1").code == 2


def test_a_job_can_name_queue_type_memory_and_exclusiveness(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs", schema.Submitted(id=1, ids=[1], name="x", state="pending"))
    words = ["--gpu-mem", "20G", "--gpu-type", "a100-80gb", "--exclusive", "-Q", "fast"]
    assert cli("submit", *words, "--", "true").code == 0
    body = stub.asked[-1].body
    assert (body["gpus"], body["gpu_type"], body["exclusive"]) == (1, "a100-80gb", True)
    assert (body["gpu_memory_bytes"], body["queue"]) == (20 << 30, "fast")
