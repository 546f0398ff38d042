"""Queues, limits and what a job asks of its GPUs, over HTTP."""

import pytest

from leptond.api.http import identity
from leptond.config import GpuSettings, QueueSettings, Settings, ShareSettings
from leptond.store.queue import gpus
from tests.support.access import as_caller, person

GIB = 1024**3


@pytest.fixture
def settings() -> Settings:
    return Settings(queue=QueueSettings(cpu_slots=2), shares=ShareSettings(user_max_pending=3))


@pytest.fixture
async def world(world):
    """Two GPUs of 80 GiB, and a slice."""
    found = [
        gpus.Found(uuid=f"GPU-{i}", index=i, name=name, memory_bytes=80 * GIB, simulated=True, mig=i == 2)
        for i, name in enumerate(
            ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "NVIDIA H100 MIG 1g.80gb")
        )
    ]
    await world.store.write(gpus.sync, found, 1.0)
    return world


async def test_a_queue_from_its_making_to_its_end(world):
    made = await world.post("/v1/queues", {"name": "fast", "gpus": ["1"], "max_gpus": 1, "weight": 2})
    assert (made.status, made.headers["Location"]) == (201, "/v1/queues/fast")
    assert made.json["gpus"] == [{"uuid": "GPU-1", "index": 1}]
    assert (await world.post("/v1/queues", {"name": "fast"})).status == 409
    assert [gpu["queue"] for gpu in (await world.get("/v1/gpus")).json["items"]] == [None, "fast", None]
    job = await world.submit(queue="fast", gpus=1)
    shown = (await world.get(f"/v1/jobs/{job}")).json
    assert (shown["queue"], shown["spec"]["queue"]) == ("fast", "fast")
    changed = await world.request("PATCH", "/v1/queues/fast", {"state": "closed", "max_time_limit_s": 60})
    assert (changed.json["state"], changed.json["max_gpus"], changed.json["pending"]) == ("closed", 1, 1)
    refused = await world.post("/v1/jobs", {"argv": ["true"], "queue": "fast"})
    assert (refused.status, refused.json["type"]) == (409, "/problems/queue-closed")
    assert (await world.request("DELETE", "/v1/queues/fast")).status == 409
    moved = await world.request("PATCH", f"/v1/jobs/{job}", {"queue": "default"})
    assert moved.json["queue"] == "default"
    assert (await world.request("PATCH", f"/v1/jobs/{job}", {"queue": "fast"})).status == 409
    assert (await world.request("DELETE", "/v1/queues/fast")).status == 204
    assert [queue["name"] for queue in (await world.get("/v1/queues")).json["items"]] == ["default"]
    for method in ("GET", "DELETE"):
        assert (await world.request(method, "/v1/queues/fast")).status == 404
    assert (await world.request("DELETE", "/v1/queues/default")).status == 409


async def test_a_queue_gives_what_a_job_does_not_say_and_refuses_what_it_does_not_take(world):
    body = {"name": "fast", "default_time_limit_s": 60, "max_time_limit_s": 120, "default_priority": 5}
    await world.post("/v1/queues", {**body, "max_gpus": 1, "users": ["somebody-else"]})
    job = await world.submit(queue="fast")  # who runs the daemon may
    shown = (await world.get(f"/v1/jobs/{job}")).json
    assert (shown["time_limit_s"], shown["priority"]) == (60, 5)
    for spec, pointer in (
        ({"time_limit_s": 180}, "/time_limit_s"),
        ({"gpus": 2}, "/gpus"),
        ({"queue": "nowhere"}, "/queue"),
    ):
        refused = await world.post("/v1/jobs", {"argv": ["true"], "queue": "fast", **spec})
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, pointer)


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"gpus": 2, "gpu_type": "h100"}, None),
        ({"gpus": 1, "gpu_type": "a100-80gb", "exclusive": True, "gpu_memory_bytes": 40 * GIB}, None),
        ({"gpus": 3, "gpu_type": "h100"}, "/gpu_type"),
        ({"gpus": 1, "gpu_type": "v100"}, "/gpu_type"),
        ({"gpus": 1, "gpu_memory_bytes": 20 * GIB}, "/gpu_memory_bytes"),  # sharing is off
        ({"gpus": 1, "gpu_memory_bytes": 81 * GIB, "exclusive": True}, "/gpu_memory_bytes"),
        ({"gpus": 3}, "/gpus"),  # two whole ones and a slice are no gang
        ({"gpu_type": "h100"}, "/gpus"),
        ({"gpus": 1, "gpu_type": "a/b"}, "/gpu_type"),
    ],
)
async def test_what_no_gpu_here_can_be_is_refused(world, spec, pointer):
    if spec == {"gpus": 2, "gpu_type": "h100"}:
        # the other H100 is a slice: no gang
        pointer = "/gpus"
    answer = await world.post("/v1/jobs", {"argv": ["true"], **spec})
    if pointer is None:
        assert answer.status == 201, answer.data
    else:
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer)


async def test_a_queue_that_owns_some_gpus_cannot_promise_those_of_others(world):
    await world.post("/v1/queues", {"name": "fast", "gpus": ["0"]})
    await world.post("/v1/queues", {"name": "slow", "gpus": ["1"], "borrow": True, "lend": "none"})
    for spec, status in (
        ({"gpus": 2, "queue": "fast"}, 422),
        ({"gpus": 1, "queue": "fast", "gpu_type": "h100-80gb"}, 201),
        ({"gpus": 2, "queue": "slow"}, 201),
    ):
        answer = await world.post("/v1/jobs", {"argv": ["true"], **spec})
        assert answer.status == status, (spec, answer.data)


async def test_only_who_runs_the_daemon_changes_queues_and_limits(world, monkeypatch):
    as_caller(monkeypatch, world.context, person("ana"))
    monkeypatch.setattr("os.geteuid", lambda: 4243)  # a daemon that does not run as root takes their jobs
    before = (await world.get("/v1/queues")).json
    for method, path, body in (
        ("POST", "/v1/queues", {"name": "mine"}),
        ("PATCH", "/v1/queues/default", {"weight": 9}),
        ("DELETE", "/v1/queues/default", None),
        ("PUT", "/v1/limits/user/ana", {"max_gpus": 9}),
        ("DELETE", "/v1/limits/user/ana", None),
    ):
        assert (await world.request(method, path, body)).status == 403, (method, path)
    assert (await world.get("/v1/queues")).json == before
    assert (await world.get("/v1/shares")).status == 200


async def test_who_is_not_on_a_queues_list_is_told_so(world, monkeypatch):
    await world.post("/v1/queues", {"name": "fast", "users": ["bo"]})
    as_caller(monkeypatch, world.context, person("ana"))
    monkeypatch.setattr("leptond.core.access.run_as.must_run", lambda settings, **who: None)
    refused = await world.post("/v1/jobs", {"argv": ["true"], "queue": "fast"})
    assert refused.status == 403
    assert "not for ana" in refused.json["detail"]


async def test_limits_are_set_seen_kept_and_forgotten(world):
    me = identity.own_user()
    for _ in range(3):
        await world.submit(project="p")
    refused = await world.post("/v1/jobs", {"argv": ["true"]})
    assert refused.status == 429
    assert f"user {me} may have 3 jobs waiting and has 3" in refused.json["detail"]
    assert "leptonctl limits set" in refused.json["hint"]
    put = await world.request("PUT", f"/v1/limits/user/{me}", {"max_pending": 4, "max_gpus": 2})
    assert (put.json["max_pending"], put.json["max_gpus"], put.json["pending"]) == (4, 2, 3)
    await world.submit()
    await world.request("PUT", "/v1/limits/project/p", {"weight": 2})
    seen = {(one["kind"], one["name"]): one for one in (await world.get("/v1/shares")).json["items"]}
    assert seen["project", "p"]["weight"] == 2
    assert (seen["user", me]["own"], seen["user", me]["pending"]) == (True, 4)
    assert (await world.request("DELETE", f"/v1/limits/user/{me}")).status == 204
    assert (await world.request("DELETE", f"/v1/limits/user/{me}")).status == 404
    assert (await world.request("PUT", f"/v1/limits/user/{me}", {})).status == 422
    assert (await world.request("PUT", "/v1/limits/queue/p", {"max_gpus": 1})).status == 404


async def test_shares_of_a_gpu_are_shown(world):
    for share in (20, 30):
        job = await world.submit()
        await world.store.write(
            lambda db, job=job, share=share: db.execute(
                "UPDATE jobs SET gpus = 1, gpu_memory_bytes = ? WHERE id = ?", (share * GIB, job)
            )
        )
        await world.start(job, "GPU-0")
    first = (await world.get("/v1/gpus")).json["items"][0]
    assert [(one["id"], one["memory_bytes"]) for one in first["jobs"]] == [(1, 20 * GIB), (2, 30 * GIB)]
    assert (first["job_id"], first["memory_leased_bytes"]) == (1, 50 * GIB)
    job = (await world.get("/v1/jobs/1")).json
    assert job["attempts"][0]["gpus"][0]["memory_bytes"] == 20 * GIB


def test_sharing_is_off_unless_it_is_turned_on():
    assert GpuSettings().sharing is False
