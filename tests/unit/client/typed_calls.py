"""What a type checker says about calls of the clients. mypy reads this file with the package; nothing runs
it. Each line that is wrong on purpose has to be wrong: `warn_unused_ignores` is on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from leptond import AsyncClient, Client, schema
from leptond.schema import sweeps


def in_a_script(lept: Client) -> None:
    assert_type(lept.submit(["true"], gpus=1, env={"A": "b"}), schema.Submitted)
    assert_type(lept.submit("true"), schema.Submitted)
    assert_type(lept.submit_many([{"argv": ["true"]}]), list[schema.Submitted])
    assert_type(lept.sweep({"argv": ["true"]}, grid={"lr": [1.0]}), sweeps.SweepSubmitted)
    assert_type(lept.sweep_results(4), sweeps.Sweep)
    assert_type(lept.job(47), schema.Job)
    assert_type(lept.jobs(state="failed"), Iterator[schema.Job])
    assert_type(lept.wait("47_3", timeout_s=5), schema.Job)
    assert_type(lept.logs(47, attempt=1, follow=True), Iterator[str])
    assert_type(lept.events(since=0), Iterator[schema.Event])
    assert_type(lept.cancel(ref=47, grace_s=1.5), schema.Job)
    assert_type(lept.cancel_array(47), schema.ArrayChanged)
    assert_type(lept.retry(47, gpus=2), schema.Submitted)
    assert_type(lept.script(47), str)
    assert_type(lept.why(47), schema.Why)
    assert_type(lept.status(), schema.Status)
    assert_type(lept.gpus(), list[schema.Gpu])
    with lept as same:
        assert_type(same, Client)


async def under_asyncio(lept: AsyncClient) -> None:
    assert_type(await lept.submit("true", gpus=1), schema.Submitted)
    assert_type(await lept.submit_many([{"argv": ["true"]}]), list[schema.Submitted])
    assert_type(await lept.wait(47, 5.0), schema.Job)
    assert_type(lept.jobs(), AsyncIterator[schema.Job])
    assert_type(lept.logs(47), AsyncIterator[str])
    assert_type(lept.events(job=47), AsyncIterator[schema.Event])
    assert_type(await lept.gpus(), list[schema.Gpu])
    async for job in lept.jobs(user="ada"):
        assert_type(job, schema.Job)


def of_the_class(lept: Client) -> None:
    assert_type(Client.job(lept, 47), schema.Job)


def mistakes(lept: Client, other: AsyncClient) -> None:
    lept.job()  # type: ignore[call-arg]
    lept.job([47])  # type: ignore[arg-type]
    lept.cancel(47, 1.5)  # type: ignore[call-arg]
    lept.cancel(47, grace="1")  # type: ignore[call-arg]
    lept.wait(47, timeout_s="5")  # type: ignore[arg-type]
    lept.submit(["true"], gpus="1")  # type: ignore[arg-type]
    lept.submit(["true"], gpsu=1)  # type: ignore[call-arg]
    lept.submit(["true"], time_limit="1h")  # type: ignore[call-arg]
    lept.retry(47, script="x")  # type: ignore[call-arg]
    lept.nothing()  # type: ignore[attr-defined]
    other.job(47).state  # type: ignore[attr-defined]  # noqa: B018  # it is not awaited
