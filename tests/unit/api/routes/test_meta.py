"""Health, and the explanations of problems."""

from leptond.base import errors
from leptond.base.errors import Refused

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Refused)]


async def test_a_daemon_that_starts_is_alive_and_not_ready(world):
    assert (await world.get("/readyz")).status == 200
    world.phase = "starting"
    answer = await world.get("/readyz")
    assert (answer.status, answer.json["status"]) == (503, "starting")
    checks = answer.json["checks"]
    assert checks.pop("accounts").startswith("service-user: ")
    assert checks == {"database": "ok", "scheduler": "starting", "gpus": "ok"}
    assert (await world.get("/healthz")).json["status"] == "ok"


async def test_gpus_that_cannot_be_read_are_said_and_do_not_close_the_queue(world):
    world.devices.note = "the driver does not answer"
    answer = await world.get("/readyz")
    assert (answer.status, answer.json["checks"]["gpus"]) == (200, "the driver does not answer")


async def test_each_problem_is_explained_where_its_type_points(world):
    for kind in KINDS:
        answer = await world.get(f"/problems/{kind.slug}")
        assert answer.status == 200
        assert answer.data.decode().startswith(f"{kind.title} (HTTP {kind.status})\n\n")


async def test_an_unknown_problem(world):
    assert (await world.get("/problems/none")).status == 404
