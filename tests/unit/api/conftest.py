"""The API in this process, on a real Unix socket and a real SQLite file; the attempts are made by the
test, with the same calls that the daemon uses."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from leptond.api.http.connection import HEADER_S, Caps
from leptond.api.http.context import Context
from leptond.api.server import Api
from leptond.base.clock import SystemClock
from leptond.base.histogram import FAST_S, DurationHistogram
from leptond.base.paths import Places
from leptond.base.tokens import Tokens
from leptond.config import HttpSettings, QueueSettings, Settings
from leptond.core.jobs.model import ExitRecord, Identity
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import Evidence
from leptond.core.scheduling.planner import Start
from leptond.gpus.base import Process, Sample
from leptond.services.file_look import FileLook
from leptond.services.gpu_history import GpuHistory
from leptond.services.retention import Retention
from leptond.store import DATABASE, Store
from leptond.store.queue import attempts, gpus
from tests.support.store import open_new_store

PATIENCE_S = 60.0
TABLES = ("jobs", "folds", "attempts", "leases", "dependencies", "events", "idempotency", "gpus", "tokens")


class Devices:
    """Two devices that are as a test says they are."""

    backend = "simulated"
    note: str | None = None

    def __init__(self) -> None:
        self.ill: dict[str, str] = {}

    def samples(self) -> Mapping[str, Sample]:
        return {
            f"GPU-{i}": Sample(
                uuid=f"GPU-{i}",
                sampled_at=1.0,
                memory_used_bytes=512,
                utilization=0.5,
                temperature_c=40.0,
                power_w=100.0,
                processes=[Process(pid=4242, memory_bytes=256, name="python")],
            )
            for i in range(2)
        }

    def unhealthy(self) -> Mapping[str, str]:
        return self.ill

    @property
    def history(self) -> GpuHistory:
        return GpuHistory()


class Answer:
    """Status, headers and body of a response."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class World:
    """A running API and what is behind it."""

    def __init__(self, context: Context, devices: Devices, header_s: float, caps: Caps | None = None) -> None:
        self.context = context
        self.store: Store = context.store
        self.devices = devices
        self.phase = "ready"
        self.api = Api(context, header_s=header_s, caps=caps)
        self.connections = self.api.connections
        self.client: aiohttp.ClientSession

    async def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request. Bodies that are not bytes go as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if data is not None else {}
        async with self.client.request(
            method, f"http://leptond{path}", data=data, headers={**kind, **(headers or {})}
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.request(
            "GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return await self.request(
            "POST", path, body, {name.replace("_", "-"): text for name, text in headers.items()}
        )

    async def submit(self, **spec: Any) -> int:
        """The id of a new job."""
        answer = await self.post("/v1/jobs", {"argv": ["true"], **spec})
        assert answer.status == 201, answer.data
        return int(answer.json["id"])

    async def stream(self, path: str, **headers: str) -> Stream:
        """An event stream that has begun."""
        response = await self.client.get(
            f"http://leptond{path}",
            headers={
                "Accept": "text/event-stream",
                **{name.replace("_", "-"): text for name, text in headers.items()},
            },
        )
        assert response.status == 200, await response.read()
        return Stream(response)

    async def raw(self, data: bytes, *, end: bool = False) -> bytes:
        """Whatever comes back for these bytes until the server closes."""
        reader, writer = await asyncio.open_unix_connection(str(self.context.places.socket))
        try:
            writer.write(data)
            if end:
                writer.write_eof()
            async with asyncio.timeout(PATIENCE_S):
                return await reader.read()
        finally:
            writer.close()

    def busy(self) -> int:
        """The number of connections on which a request is being answered."""
        return sum(one.busy for one in self.api.open_connections())

    async def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that a request could have changed."""
        return await self.store.read(
            lambda db: {
                table: [tuple(row) for row in db.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]
                for table in TABLES
            }
        )

    # -- what the scheduler and the supervisor do --------------------------------------------------

    async def claim(self, job: int, *uuids: str) -> str:
        """The id of an attempt that has begun to start."""
        clock = self.context.clock
        claimed = await self.store.write(
            attempts.claim,
            Start(id=job, gpus=uuids),
            attempt_id=secrets.token_hex(16),
            now=clock.wall(),
            boot=clock.boot(),
            boot_id=clock.boot_id,
        )
        assert claimed is not None
        return claimed.attempt.id

    async def start(self, job: int, *uuids: str) -> str:
        """The id of an attempt that runs."""
        attempt = await self.claim(job, *uuids)
        shim = Identity(boot_id=self.context.clock.boot_id, pid=1, start_ticks=1)
        await self.store.write(
            attempts.started, attempt, shim=shim, now=self.context.clock.wall(), deadline_at=None
        )
        await self.store.write(attempts.set_pid, attempt, 4242)
        return attempt

    async def finish(self, attempt: str, exit_code: int = 0, run_s: float = 100.0) -> None:
        """Ends an attempt."""
        clock = self.context.clock
        await self.store.write(
            attempts.finish,
            attempt,
            verdict=classify(Evidence(exit_code=exit_code, run_s=run_s)),
            record=ExitRecord(attempt_id=attempt, boot_id=clock.boot_id, exit_code=exit_code, run_s=run_s),
            now=clock.wall(),
            boot=clock.boot(),
            boot_id=clock.boot_id,
            roll=0.0,
        )

    def directory(self, job: int, attempt: int = 1) -> Path:
        """Where an attempt's output is."""
        path = self.context.jobs_dir / str(job) / str(attempt)
        path.mkdir(parents=True, exist_ok=True)
        return path


class Stream:
    """Server-sent events as (event, id, data)."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> tuple[str, str | None, Any]:
        """The next event; comments are passed over. Raises EOFError at the end."""
        found: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self.response.content.readline()).decode():
                if line == "\n" and "event" in found:
                    return found["event"], found.get("id"), json.loads(found["data"])
                name, mark, value = line.rstrip("\n").partition(": ")
                if mark and name:
                    found[name] = value
        raise EOFError

    async def take(self, count: int) -> list[tuple[str, str | None, Any]]:
        return [await self.next() for _ in range(count)]

    async def rest(self) -> list[tuple[str, str | None, Any]]:
        """All up to the end of the stream."""
        found = []
        try:
            while True:
                found.append(await self.next())
        except EOFError:
            return found

    def close(self) -> None:
        self.response.close()


@pytest.fixture
def settings() -> Settings:
    """Overridden by tests that need others."""
    return Settings(queue=QueueSettings(cpu_slots=2))


@pytest.fixture
def header_s() -> float:
    """Overridden by tests that need another."""
    return HEADER_S


@pytest.fixture
def caps() -> Caps | None:
    """Overridden by tests that need others."""
    return None


@pytest.fixture
async def world(
    tmp_path: Path, settings: Settings, header_s: float, caps: Caps | None
) -> AsyncIterator[World]:
    async with open_new_store(tmp_path / DATABASE) as store:
        found = [
            gpus.Found(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1024, simulated=True)
            for i in range(2)
        ]
        await store.write(gpus.sync, found, 1.0)
        devices = Devices()
        clock = SystemClock()
        one: World
        context = Context(
            store=store,
            clock=clock,
            settings=settings,
            places=Places(
                mode="user",
                config_file=tmp_path / "config.toml",
                state_dir=tmp_path,
                socket=tmp_path / "api.sock",
                token_file=tmp_path / "token",
            ),
            gpu_view=devices,
            started_at=clock.wall(),
            phase=lambda: one.phase,
            notes=["a note"],
            jobs_dir=tmp_path / "jobs",
            checkpoints_dir=tmp_path / "checkpoints",
            retention=Retention(store, clock),
            pass_times=DurationHistogram(FAST_S),
            file_look=FileLook(tmp_path),
            tokens=Tokens(full="lept_good", read_only="lept_looks"),
        )
        one = World(context, devices, header_s, caps)
        await one.api.start()
        connector = aiohttp.UnixConnector(str(context.places.socket))
        async with aiohttp.ClientSession(connector=connector) as client:
            one.client = client
            yield one
        await one.api.stop()


@pytest.fixture
def with_http(settings: Settings) -> Any:
    """Settings with other [http] values."""
    return lambda **http: msgspec.structs.replace(settings, http=HttpSettings(**http))
