"""leptond from Python: :class:`Client` for scripts and notebooks, :class:`AsyncClient` for asyncio programs.

>>> from leptond import Client                                             # doctest: +SKIP
>>> with Client() as lept:                                                 # doctest: +SKIP
...     job = lept.submit(["python", "train.py"], gpus=1, time_limit_s=7200)
...     for text in lept.logs(job.id, follow=True):
...         print(text, end="")
...     print(lept.wait(job.id).state)

Both find the daemon as leptonctl does (``host=``, LEPTOND_HOST, the user's socket, the machine's), answer
with the types of :mod:`leptond.schema`, and raise :class:`leptond.client.transport.ClientError`:
``ApiError`` with the daemon's own words, ``Unreachable``, ``Interrupted``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from leptond import schema
from leptond.client.transport import (
    RESTART_S,
    ApiError,
    Interrupted,
    ServerEvent,
    Transport,
    Unreachable,
    find_target,
    find_token,
    read_events,
)
from leptond.core.jobs.model import TERMINAL
from leptond.schema import sweeps

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
Ref = int | str
"""A job: its id, or ``47_3`` for a member of an array."""

WAIT_S = 30.0
PAGE = 500
RECONNECT_S = 60.0


class Ask(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One request: what both clients send, and the type that the answer is read as (None: no body)."""

    method: str
    path: str
    answer: Any = None
    query: Mapping[str, Any] = {}
    body: Any = None
    headers: Mapping[str, str] = {}

    def read(self, data: bytes) -> T:
        """The answer."""
        return msgspec.json.decode(data, type=self.answer) if self.answer is not None else None  # type: ignore[return-value]


def _submit(argv: Sequence[str], spec: Mapping[str, Any]) -> Ask[schema.Submitted]:
    if isinstance(argv, str):
        argv, spec = [argv], {"shell": True, **spec}  # one text is a line for a shell
    body = {"argv": list(argv), "cwd": os.getcwd(), **spec}  # noqa: PTH109  # a text is wanted
    # repeated by itself when the connection breaks, it is still one job
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    return Ask(method="POST", path="/v1/jobs", answer=schema.Submitted, body=body, headers=headers)


def _submit_many(specs: Sequence[Mapping[str, Any]]) -> Ask[schema.BatchSubmitted]:
    cwd = os.getcwd()  # noqa: PTH109
    body = {"jobs": [{"cwd": cwd, **spec} for spec in specs]}
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    return Ask(method="POST", path="/v1/jobs:batch", answer=schema.BatchSubmitted, body=body, headers=headers)


def _sweep(job: Mapping[str, Any], asked: Mapping[str, Any]) -> Ask[sweeps.SweepSubmitted]:
    body = {"job": {"cwd": os.getcwd(), **job}, **asked}  # noqa: PTH109
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    return Ask(method="POST", path="/v1/sweeps", answer=sweeps.SweepSubmitted, body=body, headers=headers)


def _results(sweep_id: int) -> Ask[sweeps.Sweep]:
    return Ask(method="GET", path=f"/v1/sweeps/{sweep_id}", answer=sweeps.Sweep)


def _job(ref: Ref, wait_s: float | None = None) -> Ask[schema.Job]:
    query = {} if wait_s is None else {"wait_s": f"{wait_s:g}"}
    return Ask(method="GET", path=f"/v1/jobs/{ref}", answer=schema.Job, query=query)


def _page(query: Mapping[str, Any], cursor: str | None) -> Ask[schema.JobPage]:
    asked = {**query, "limit": PAGE, **({"cursor": cursor} if cursor is not None else {})}
    return Ask(method="GET", path="/v1/jobs", answer=schema.JobPage, query=asked)


def _verb(ref: Ref, verb: str, body: Any = None) -> Ask[schema.Job]:
    return Ask(method="POST", path=f"/v1/jobs/{ref}/{verb}", answer=schema.Job, body=body)


def _retry(ref: Ref, changes: Mapping[str, Any]) -> Ask[schema.Submitted]:
    return Ask(method="POST", path=f"/v1/jobs/{ref}/retry", answer=schema.Submitted, body=dict(changes))


def _edit(ref: Ref, changes: Mapping[str, Any]) -> Ask[schema.Job]:
    return Ask(method="PATCH", path=f"/v1/jobs/{ref}", answer=schema.Job, body=dict(changes))


def _whole(array_id: int, verb: str, body: Any = None) -> Ask[schema.ArrayChanged]:
    return Ask(method="POST", path=f"/v1/arrays/{array_id}/{verb}", answer=schema.ArrayChanged, body=body)


def _why(ref: Ref) -> Ask[schema.Why]:
    return Ask(method="GET", path=f"/v1/jobs/{ref}/why", answer=schema.Why)


_STATUS: Ask[schema.Status] = Ask(method="GET", path="/v1/status", answer=schema.Status)
_GPUS: Ask[schema.GpuList] = Ask(method="GET", path="/v1/gpus", answer=schema.GpuList)


def _grace(grace_s: float | None) -> dict[str, float]:
    return {} if grace_s is None else {"grace_s": grace_s}


def _log_path(ref: Ref, attempt: int | None, *, follow: bool) -> tuple[str, dict[str, Any]]:
    query = {} if attempt is None else {"attempt": attempt}
    return f"/v1/jobs/{ref}/log{'/stream' if follow else ''}", query


def _text_of(event: ServerEvent) -> str | None:
    data = event.json()
    return str(data["text"]) if event.type == "log.chunk" and data is not None else None


class Client:
    """A daemon, for one thread. Use it in a ``with``, or :meth:`close` it. `patience_s`: how long a request
    waits for a daemon that is not there; without it such a request fails at once."""

    def __init__(self, host: str | None = None, *, patience_s: float = 0.0) -> None:
        self._transport = Transport.find(host)
        self._patience_s = patience_s

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the connection go."""
        self._transport.close()

    def _do(self, ask: Ask[T], *, wait_s: float = 0.0) -> T:
        reply = self._transport.request(
            ask.method,
            ask.path,
            query=ask.query,
            body=ask.body,
            headers=ask.headers,
            wait_s=wait_s,
            patience_s=max(RESTART_S, self._patience_s),
            persistent=self._patience_s > 0,
        )
        return ask.read(reply.body)

    def submit(self, argv: Sequence[str] | str, **spec: Any) -> schema.Submitted:
        """Queues a command (a list of words; one text is a line for a shell), from this directory unless
        ``cwd=`` says otherwise. `spec`: the fields of JobSpec, such as gpus=1, time_limit_s=3600,
        retries=2, env={...}. Durable when it returns, and one job even if the connection broke meanwhile."""
        return self._do(_submit(argv, spec))

    def submit_many(self, specs: Sequence[Mapping[str, Any]]) -> list[schema.Submitted]:
        """Queues many, all or none. Each has ``argv`` and further fields of JobSpec."""
        return self._do(_submit_many(specs)).jobs

    def sweep(self, job: Mapping[str, Any], **asked: Any) -> sweeps.SweepSubmitted:
        """Queues a sweep, all of its trials or none. `job`: ``argv`` and further fields of JobSpec; `asked`:
        the other fields of NewSweep, such as grid={"lr": [1e-3, 1e-4]}, random={"wd": "log:1e-4..1e-1"},
        trials=20. Its trials are an array of the same number (:meth:`cancel_array`)."""
        return self._do(_sweep(job, asked))

    def sweep_results(self, sweep_id: int) -> sweeps.Sweep:
        """How the trials of a sweep do, and which is the best."""
        return self._do(_results(sweep_id))

    def job(self, ref: Ref) -> schema.Job:
        """A job with its attempts."""
        return self._do(_job(ref))

    def jobs(self, **query: Any) -> Iterator[schema.Job]:
        """Jobs, newest first; `query` as in GET /v1/jobs (state="running,pending", user=, project=, name=,
        order="queue")."""
        cursor = None
        while True:
            page = self._do(_page(query, cursor))
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def wait(self, ref: Ref, timeout_s: float | None = None) -> schema.Job:
        """The job when it has ended; through restarts of the daemon. Raises TimeoutError."""
        from time import monotonic

        until = None if timeout_s is None else monotonic() + timeout_s
        while True:
            left = WAIT_S if until is None else min(WAIT_S, max(0.0, until - monotonic()))
            body = self._transport.wait_job(str(ref), left)
            job = msgspec.convert(body, schema.Job)
            if job.state in TERMINAL:
                return job
            if until is not None and monotonic() >= until:
                raise TimeoutError(f"job {job.ref} is {job.state} after {timeout_s:g} s")

    def logs(self, ref: Ref, *, attempt: int | None = None, follow: bool = False) -> Iterator[str]:
        """The output, in pieces of text. With `follow` as it comes, through retries, until the job ends."""
        path, query = _log_path(ref, attempt, follow=follow)
        if not follow:
            yield self._transport.request("GET", path, query=query).body.decode("utf-8", "replace")
            return
        for event in self._transport.follow(path, query):
            text = _text_of(event)
            if text is not None:
                yield text

    def events(self, *, since: int | None = None, job: int | None = None) -> Iterator[schema.Event]:
        """What happens, as it happens, after event `since` (None: from now on), without end. Resumes by
        itself where it was when the connection breaks."""
        query = {name: value for name, value in (("since", since), ("job", job)) if value is not None}
        for event in self._transport.follow("/v1/events", query):
            if event.id is not None:
                yield msgspec.json.decode(event.data, type=schema.Event)

    def cancel(self, ref: Ref, *, grace_s: float | None = None) -> schema.Job:
        """Cancels; a running job gets its stop signal and its grace."""
        return self._do(_verb(ref, "cancel", _grace(grace_s)))

    def hold(self, ref: Ref) -> schema.Job:
        """Keeps a pending job from starting."""
        return self._do(_verb(ref, "hold"))

    def release(self, ref: Ref) -> schema.Job:
        """Lets a held job start."""
        return self._do(_verb(ref, "release"))

    def cancel_array(self, array_id: int, *, grace_s: float | None = None) -> schema.ArrayChanged:
        """Cancels all members of an array that have not ended."""
        return self._do(_whole(array_id, "cancel", _grace(grace_s)))

    def hold_array(self, array_id: int) -> schema.ArrayChanged:
        """Keeps all members that wait from starting."""
        return self._do(_whole(array_id, "hold"))

    def release_array(self, array_id: int) -> schema.ArrayChanged:
        """Lets all held members start."""
        return self._do(_whole(array_id, "release"))

    def retry(self, ref: Ref, **changes: Any) -> schema.Submitted:
        """Runs an ended job again, as a copy that shares its checkpoints."""
        return self._do(_retry(ref, changes))

    def edit(self, ref: Ref, **changes: Any) -> schema.Job:
        """Changes priority, name, project, labels; of a pending job also time_limit_s, gpus, retries."""
        return self._do(_edit(ref, changes))

    def why(self, ref: Ref) -> schema.Why:
        """Why a job stands where it stands, and what would move it on."""
        return self._do(_why(ref))

    def status(self) -> schema.Status:
        """What runs, what waits and why, and whether all is well."""
        return self._do(_STATUS)

    def gpus(self) -> list[schema.Gpu]:
        """The devices and who has them."""
        return self._do(_GPUS).items


class AsyncClient:
    """A daemon, under asyncio. ``async with AsyncClient() as lept: ...``; methods as :class:`Client`."""

    def __init__(self, host: str | None = None) -> None:
        self._target = find_target(host, os.environ)
        self._token = find_token(os.environ) if self._target.path is None else None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Lets the connections go."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            path = self._target.path
            connector = aiohttp.UnixConnector(str(path)) if path is not None else None
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            self._session = aiohttp.ClientSession(
                base_url="http://leptond" if path is not None else str(self._target),
                connector=connector,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=WAIT_S + 45),
            )
        return self._session

    @contextlib.asynccontextmanager
    async def _asked(self, ask: Ask[Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer below 400, its body still to be read. Raises ClientError."""
        import aiohttp

        query = {name: str(value) for name, value in ask.query.items()}
        json = None if ask.body is None else ask.body
        try:
            async with self._open().request(
                ask.method, ask.path, params=query, json=json, headers=ask.headers
            ) as response:
                if response.status >= 400:
                    raise ApiError(await _problem(response))
                yield response
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(self._target, str(error)) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Interrupted(self._target, str(error) or type(error).__name__) from None

    async def _do(self, ask: Ask[T]) -> T:
        async with self._asked(ask) as response:
            return ask.read(await response.read())

    async def submit(self, argv: Sequence[str] | str, **spec: Any) -> schema.Submitted:
        """As :meth:`Client.submit`. Repeated once by itself when the connection broke: still one job."""
        ask = _submit(argv, spec)
        try:
            return await self._do(ask)
        except Interrupted:
            return await self._do(ask)

    async def submit_many(self, specs: Sequence[Mapping[str, Any]]) -> list[schema.Submitted]:
        """As :meth:`Client.submit_many`."""
        return (await self._do(_submit_many(specs))).jobs

    async def sweep(self, job: Mapping[str, Any], **asked: Any) -> sweeps.SweepSubmitted:
        """As :meth:`Client.sweep`."""
        return await self._do(_sweep(job, asked))

    async def sweep_results(self, sweep_id: int) -> sweeps.Sweep:
        """As :meth:`Client.sweep_results`."""
        return await self._do(_results(sweep_id))

    async def job(self, ref: Ref) -> schema.Job:
        """As :meth:`Client.job`."""
        return await self._do(_job(ref))

    async def jobs(self, **query: Any) -> AsyncIterator[schema.Job]:
        """As :meth:`Client.jobs`."""
        cursor = None
        while True:
            page = await self._do(_page(query, cursor))
            for job in page.items:
                yield job
            cursor = page.next_cursor
            if cursor is None:
                return

    async def wait(self, ref: Ref, timeout_s: float | None = None) -> schema.Job:
        """As :meth:`Client.wait`. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            lost = 0.0
            while True:
                try:
                    job = await self._do(_job(ref, WAIT_S))
                except (Unreachable, Interrupted):
                    if lost >= RECONNECT_S:
                        raise
                    lost += 0.5
                    await asyncio.sleep(0.5)
                    continue
                lost = 0.0
                if job.state in TERMINAL:
                    return job

    async def logs(self, ref: Ref, *, attempt: int | None = None, follow: bool = False) -> AsyncIterator[str]:
        """As :meth:`Client.logs`."""
        path, query = _log_path(ref, attempt, follow=follow)
        if not follow:
            async with self._asked(Ask(method="GET", path=path, query=query)) as response:
                yield (await response.read()).decode("utf-8", "replace")
            return
        async for event in self._follow(path, query):
            text = _text_of(event)
            if text is not None:
                yield text

    async def events(
        self, *, since: int | None = None, job: int | None = None
    ) -> AsyncIterator[schema.Event]:
        """As :meth:`Client.events`."""
        query = {name: value for name, value in (("since", since), ("job", job)) if value is not None}
        async for event in self._follow("/v1/events", query):
            if event.id is not None:
                yield msgspec.json.decode(event.data, type=schema.Event)

    async def _follow(self, path: str, query: Mapping[str, Any]) -> AsyncIterator[ServerEvent]:
        """Server-sent events until one of type ``end``, through breaks of the connection."""
        last_id: str | None = None
        lost = 0.0
        while True:
            headers = {"Accept": "text/event-stream"}
            if last_id is not None:
                headers["Last-Event-ID"] = last_id
            ask: Ask[Any] = Ask(
                method="GET", path=path, query=query if last_id is None else {}, headers=headers
            )
            try:
                async with self._asked(ask) as response:
                    block: list[bytes] = []
                    async for line in response.content:
                        block.append(line)
                        if line.strip():
                            continue
                        for event in read_events(block):
                            lost = 0.0
                            last_id = event.id if event.id is not None else last_id
                            yield event
                            if event.type == "end":
                                return
                        block = []
            except (Unreachable, Interrupted):
                if lost >= RECONNECT_S or last_id is None:
                    raise
            lost += 0.5
            await asyncio.sleep(0.5)

    async def cancel(self, ref: Ref, *, grace_s: float | None = None) -> schema.Job:
        """As :meth:`Client.cancel`."""
        return await self._do(_verb(ref, "cancel", _grace(grace_s)))

    async def hold(self, ref: Ref) -> schema.Job:
        """As :meth:`Client.hold`."""
        return await self._do(_verb(ref, "hold"))

    async def release(self, ref: Ref) -> schema.Job:
        """As :meth:`Client.release`."""
        return await self._do(_verb(ref, "release"))

    async def cancel_array(self, array_id: int, *, grace_s: float | None = None) -> schema.ArrayChanged:
        """As :meth:`Client.cancel_array`."""
        return await self._do(_whole(array_id, "cancel", _grace(grace_s)))

    async def hold_array(self, array_id: int) -> schema.ArrayChanged:
        """As :meth:`Client.hold_array`."""
        return await self._do(_whole(array_id, "hold"))

    async def release_array(self, array_id: int) -> schema.ArrayChanged:
        """As :meth:`Client.release_array`."""
        return await self._do(_whole(array_id, "release"))

    async def retry(self, ref: Ref, **changes: Any) -> schema.Submitted:
        """As :meth:`Client.retry`."""
        return await self._do(_retry(ref, changes))

    async def edit(self, ref: Ref, **changes: Any) -> schema.Job:
        """As :meth:`Client.edit`."""
        return await self._do(_edit(ref, changes))

    async def why(self, ref: Ref) -> schema.Why:
        """As :meth:`Client.why`."""
        return await self._do(_why(ref))

    async def status(self) -> schema.Status:
        """As :meth:`Client.status`."""
        return await self._do(_STATUS)

    async def gpus(self) -> list[schema.Gpu]:
        """As :meth:`Client.gpus`."""
        return (await self._do(_GPUS)).items


async def _problem(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The error of an answer; what is not a problem of ours is told as it is."""
    data = await response.read()
    with contextlib.suppress(msgspec.DecodeError):
        body = msgspec.json.decode(data)
        if isinstance(body, dict) and "detail" in body:
            return {**body, "status": response.status}
    return {
        "type": "about:blank",
        "title": response.reason or "",
        "status": response.status,
        "detail": str(response.reason),
    }
