"""Every method of the clients is declared once: what it asks, what it makes of the answer, and what Python
says about it, for both clients against a real socket."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from leptond import AsyncClient, Client, schema
from leptond.client import ClientError
from leptond.client.job_spec import CARRIED
from leptond.client.methods import Methods, answered, iterated
from leptond.core.jobs.model import State
from leptond.schema import sweeps
from tests.unit.cli.stub import Stub, ended, make_gpu, make_job, make_status, page, submitted

DECLARED = [name for name, value in vars(Methods).items() if isinstance(value, answered | iterated)]


def array_changed() -> schema.ArrayChanged:
    counts = {State.PENDING: 2}
    array = schema.Array(id=47, name="many", user="ana", counts=counts, held=2, never_start=0)
    return schema.ArrayChanged(changed=2, array=array)


def run(kind: type[Any], use: Callable[[Any], Any]) -> Any:
    """What `use` makes of an open client of that class: a value, or the list of the items."""

    async def under_asyncio() -> Any:
        async with AsyncClient() as lept:
            made = use(lept)
            return [item async for item in made] if hasattr(made, "__aiter__") else await made

    if kind is AsyncClient:
        return asyncio.run(under_asyncio())
    with Client() as lept:
        made = use(lept)
        return list(made) if hasattr(made, "__next__") else made


both = pytest.mark.parametrize("kind", [Client, AsyncClient])

BODIES: list[tuple[str, Callable[[Any], Any], tuple[str, str], Any, Any]] = [
    ("retry", lambda lept: lept.retry(47, gpus=2), ("POST", "/v1/jobs/47/retry"), submitted(), {"gpus": 2}),
    ("retry", lambda lept: lept.retry(47), ("POST", "/v1/jobs/47/retry"), submitted(), {}),
    ("edit", lambda lept: lept.edit("47_3", name="b"), ("PATCH", "/v1/jobs/47_3"), make_job(), {"name": "b"}),
    ("cancel", lambda lept: lept.cancel(47), ("POST", "/v1/jobs/47/cancel"), make_job(), {}),
    (
        "cancel",
        lambda lept: lept.cancel(47, grace_s=2),
        ("POST", "/v1/jobs/47/cancel"),
        make_job(),
        {"grace_s": 2},
    ),
    ("hold", lambda lept: lept.hold(47), ("POST", "/v1/jobs/47/hold"), make_job(), None),
    ("release", lambda lept: lept.release(47), ("POST", "/v1/jobs/47/release"), make_job(), None),
    (
        "cancel_array",
        lambda lept: lept.cancel_array(47, grace_s=2),
        ("POST", "/v1/arrays/47/cancel"),
        array_changed(),
        {"grace_s": 2},
    ),
    (
        "hold_array",
        lambda lept: lept.hold_array(47),
        ("POST", "/v1/arrays/47/hold"),
        array_changed(),
        None,
    ),
    (
        "release_array",
        lambda lept: lept.release_array(47),
        ("POST", "/v1/arrays/47/release"),
        array_changed(),
        None,
    ),
    ("job", lambda lept: lept.job(47), ("GET", "/v1/jobs/47"), make_job(), None),
    ("status", lambda lept: lept.status(), ("GET", "/v1/status"), make_status(), None),
]


@both
@pytest.mark.parametrize(("name", "use", "asked", "answer", "body"), BODIES)
def test_a_method_asks_one_thing_and_answers_with_its_type(
    stub: Stub, kind, name, use, asked, answer, body
) -> None:
    stub.on(*asked, answer)
    value = run(kind, use)
    assert value == (answer.body if hasattr(answer, "pieces") else answer)
    (request,) = stub.of(*asked)
    assert request.body == body
    assert request.query == {}


HERE = {name: os.environ[name] for name in CARRIED if os.environ.get(name)}


@both
def test_a_submit_is_from_here_and_has_a_key(stub: Stub, kind) -> None:
    stub.on("POST", "/v1/jobs", submitted())
    assert run(kind, lambda lept: lept.submit(("sh", "hi"), gpus=1, env={"A": "b"})).id == 47
    run(kind, lambda lept: lept.submit("echo hi", cwd="/tmp", export="NONE"))
    words, text = stub.of("POST", "/v1/jobs")
    assert words.body == {
        "argv": [shutil.which("sh"), "hi"],
        "cwd": str(Path.cwd()),
        "env": {**HERE, "A": "b"},
        "gpus": 1,
    }
    assert text.body == {"argv": ["echo hi"], "shell": True, "cwd": "/tmp"}
    assert words.headers["idempotency-key"] != text.headers["idempotency-key"]


@both
def test_many_jobs_and_sweeps_are_from_here_as_well(stub: Stub, kind) -> None:
    made = schema.Submitted(id=47, ids=[47], name="true", state=State.PENDING)
    stub.on("POST", "/v1/jobs:batch", schema.BatchSubmitted(jobs=[made, made]))
    specs = [{"argv": ["true"]}, {"argv": ["true"], "cwd": "/tmp"}]
    assert run(kind, lambda lept: lept.submit_many(specs)) == [made, made]
    (asked,) = stub.of("POST", "/v1/jobs:batch")
    assert [job["cwd"] for job in asked.body["jobs"]] == [str(Path.cwd()), "/tmp"]
    assert [(job["argv"], job["env"]) for job in asked.body["jobs"]] == [([shutil.which("true")], HERE)] * 2
    assert asked.headers["idempotency-key"]
    stub.on(
        "POST",
        "/v1/sweeps",
        sweeps.SweepSubmitted(id=3, ids=[3], name="true", trials=[{"lr": 0.1}]),
    )
    assert run(kind, lambda lept: lept.sweep({"argv": ["true"]}, grid={"lr": [0.1]})).id == 3
    (asked,) = stub.of("POST", "/v1/sweeps")
    job = {"argv": [shutil.which("true")], "cwd": str(Path.cwd()), "env": HERE}
    assert asked.body == {"job": job, "grid": {"lr": [0.1]}}


@both
def test_a_script_is_sent_along_and_its_options_are_not_passed_over_in_silence(
    stub: Stub, kind, tmp_path: Path
) -> None:
    stub.on("POST", "/v1/jobs", submitted())
    (tmp_path / "job.sh").write_text("#SBATCH --no-such-option\necho\n")
    with pytest.warns(UserWarning, match="options of leptonctl alone"):
        run(kind, lambda lept: lept.submit(["job.sh"], cwd=str(tmp_path)))
    (asked,) = stub.of("POST", "/v1/jobs")
    assert asked.body["argv"] == [f"{tmp_path}/job.sh"]
    assert asked.body["script"] == "#SBATCH --no-such-option\necho\n"


@both
def test_a_call_from_a_directory_that_is_gone_is_a_client_error(
    stub: Stub, kind, tmp_path: Path, monkeypatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ClientError, match="the directory you are in cannot be used"):
        run(kind, lambda lept: lept.submit(["true"]))
    assert stub.asked == []
    monkeypatch.chdir("/")


@both
def test_all_pages_of_a_list_are_one(stub: Stub, kind) -> None:
    stub.on("GET", "/v1/jobs", page(make_job(id=2), cursor="more"), page(make_job(id=1)))
    assert [job.id for job in run(kind, lambda lept: lept.jobs(state="failed"))] == [2, 1]
    first, second = stub.of("GET", "/v1/jobs")
    assert first.query == {"state": "failed", "limit": "500"}
    assert second.query == {"state": "failed", "limit": "500", "cursor": "more"}


@both
def test_a_wait_asks_until_the_job_has_ended(stub: Stub, kind) -> None:
    stub.on("GET", "/v1/jobs/47", make_job(), ended(State.FAILED))
    assert run(kind, lambda lept: lept.wait(47)).state is State.FAILED
    assert [asked.query for asked in stub.of("GET", "/v1/jobs/47")] == [{"wait_s": "30"}] * 2


@both
def test_a_list_of_gpus_has_no_wrapping(stub: Stub, kind) -> None:
    stub.on("GET", "/v1/gpus", schema.GpuList(items=[make_gpu(1)], backend="nvml"))
    assert run(kind, lambda lept: lept.gpus()) == [make_gpu(1)]


@both
def test_a_ref_cannot_leave_its_place_in_the_path(stub: Stub, kind) -> None:
    stub.on("POST", "/v1/jobs/47%2F..%2F48%20%3Fa/hold", make_job())
    run(kind, lambda lept: lept.hold("47/../48 ?a"))
    assert len(stub.asked) == 1


@both
@pytest.mark.parametrize("name", DECLARED)
def test_python_knows_each_method(kind, name) -> None:
    method = getattr(kind, name)
    assert inspect.isfunction(method)
    assert method.__qualname__ == f"{kind.__name__}.{name}"
    assert method.__doc__
    hints = typing.get_type_hints(method)
    signature = inspect.signature(method)
    assert set(hints) == {*list(signature.parameters)[1:], "return"}
    if isinstance(vars(Methods)[name], answered):
        assert inspect.iscoroutinefunction(method) == (kind is AsyncClient)
    else:
        assert (str(signature.return_annotation)).startswith("Async") == (kind is AsyncClient)


def test_signatures_are_as_if_written_by_hand() -> None:
    def text(method: Any) -> str:
        return str(inspect.signature(method)).replace("'", "")

    words = "argv: Sequence[str] | str, *, export: str | None = None, **spec: Unpack[JobFields]"
    assert text(Client.submit) == f"(self, {words}) -> schema.Submitted"
    assert text(AsyncClient.submit) == text(Client.submit)
    assert text(Client.submit_many).endswith("-> list[schema.Submitted]")
    logs = "(self, ref: Ref, *, attempt: int | None = None, follow: bool = False)"
    assert text(Client.logs) == f"{logs} -> Iterator[str]"
    assert text(AsyncClient.logs) == f"{logs} -> AsyncIterator[str]"


def test_a_class_of_the_user_keeps_its_own_methods(stub: Stub) -> None:
    class Polite(Client):
        def hold(self, ref: int | str) -> schema.Job:
            return super().hold(ref) if ref else make_job(name="none")

    stub.on("POST", "/v1/jobs/47/hold", make_job())
    with Polite() as lept:
        assert lept.hold(0).name == "none"
        assert lept.hold(47).name == "train.py"


@both
def test_what_the_daemon_wants_told_is_a_warning(stub: Stub, kind: type[Any]):
    forgot = "it gets no GPU, although it looks like a training"
    made = schema.Submitted(id=1, ids=[1], array_id=None, name="true", state=State.PENDING, warnings=[forgot])
    quiet = msgspec.structs.replace(made, warnings=[])
    stub.on("POST", "/v1/jobs", made)
    stub.on("POST", "/v1/jobs:batch", schema.BatchSubmitted(jobs=[quiet, made]))
    with pytest.warns(UserWarning, match=forgot):
        run(kind, lambda lept: lept.submit(["true"]))
    with pytest.warns(UserWarning, match=forgot):
        run(kind, lambda lept: lept.submit_many([{"argv": ["true"]}] * 2))
