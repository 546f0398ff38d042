"""The database over HTTP: facts about it, backups while it is in use, and the purge of what is past
retention."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import threading
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from leptond.api.http.routing import Call, Reply, Table
from leptond.api.views import bodies
from leptond.base.errors import StorageFull
from leptond.core.access.policies import Policy
from leptond.core.retention_limits import UNLIMITED
from leptond.services.maintenance import keep_backup
from leptond.store import SQLITE_VERSION, StoreError
from leptond.store.database import backup
from leptond.store.database.migrate import version

table = Table("database")
CHUNK = 256 * 1024


class Backup(msgspec.Struct, kw_only=True):
    """A copy of the database in `backups/` of the daemon's state directory."""

    name: str
    bytes: int
    taken_at: datetime


class Database(msgspec.Struct, kw_only=True):
    """The queue's database: where it is, how large, and which copies of it the daemon keeps."""

    path: str
    lineage: str
    schema: int
    sqlite_version: str
    bytes: int
    log_bytes: int
    free_bytes: int
    backups: list[Backup]


def _shown(one: backup.Backup) -> Backup:
    return Backup(name=one.name, bytes=one.bytes, taken_at=bodies.instant(one.taken_at))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@table.route("GET", "/v1/db", Policy.ADMINISTER, answer=Database)
async def database(call: Call) -> Database:
    """Return facts about the queue's database and the backups that the daemon keeps."""
    store = call.context.store
    schema = await store.survey(version)
    seen = os.statvfs(store.path.parent)
    return Database(
        path=str(store.path),
        lineage=store.lineage,
        schema=schema,
        sqlite_version=SQLITE_VERSION,
        bytes=_size(store.path),
        log_bytes=_size(Path(f"{store.path}-wal")),
        free_bytes=seen.f_bavail * seen.f_frsize,
        backups=[_shown(one) for one in backup.kept(store.path.parent)],
    )


@table.route(
    "POST",
    "/v1/db/backups",
    Policy.ADMINISTER,
    audited=True,
    answer=Backup,
    status=201,
    errors=(507,),
    streams=True,
)
async def take_backup(call: Call) -> Reply:
    """Take a backup into the daemon's own state directory; the oldest beyond the number kept go."""
    context = call.context
    try:
        one = await keep_backup(context.store, context.clock.wall(), context.settings.storage.backup_keep)
    except (OSError, StoreError) as error:
        raise _no_space(error) from None
    return Reply(_shown(one), status=201)


@table.route(
    "GET",
    "/v1/db/backup",
    Policy.ADMINISTER,
    audited=True,
    answer=str,
    media="application/vnd.sqlite3",
    errors=(507,),
    streams=True,
)
async def stream_backup(call: Call) -> web.StreamResponse:
    """Download a copy of the database as it is now, to keep elsewhere. Writes go on meanwhile. The answer's
    X-Checksum-Sha256 is that of the body."""
    context = call.context
    state_dir = context.store.path.parent
    aside = state_dir / f".backup-{secrets.token_hex(8)}.tmp"
    stop = threading.Event()

    def make() -> str:
        backup.snapshot(context.store.path, aside, now=context.clock.wall(), stop=stop)
        with aside.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    try:
        checksum = await asyncio.to_thread(make)
        fd = os.open(aside, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (OSError, StoreError) as error:
        raise _no_space(error) from None
    finally:
        stop.set()
        # an open file needs no name: whatever happens now leaves nothing behind
        aside.unlink(missing_ok=True)
    with contextlib.closing(os.fdopen(fd, "rb")) as file:
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/vnd.sqlite3",
                "X-Checksum-Sha256": checksum,
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
            }
        )
        response.content_length = os.fstat(fd).st_size
        await response.prepare(call.request)
        with contextlib.suppress(ConnectionError):
            while part := await asyncio.to_thread(file.read, CHUNK):
                await response.write(part)
            await response.write_eof()
        return response


def _no_space(error: Exception) -> StorageFull:
    return StorageFull(f"the backup could not be made: {error}", hint="make room in the state directory")


class Purge(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A purge: without `older_than_s` of what is over the limits of `[retention]`, with it of every finished
    job that ended longer ago. `dry_run`: remove nothing, only answer what would be removed. `checkpoints`:
    also remove checkpoints with the last job that used them."""

    older_than_s: Annotated[float, Meta(gt=0)] | None = None
    dry_run: bool = False
    checkpoints: bool = False


class Purged(msgspec.Struct, kw_only=True):
    """The result of a purge, or of its dry run: `job_ids` (the first thousand) of `jobs` finished jobs,
    `outputs` of other ended attempts, `events`, and the `bytes` of all files."""

    dry_run: bool
    jobs: int
    job_ids: list[int]
    outputs: int
    events: int
    bytes: int


@table.route(
    "POST",
    "/v1/purge",
    Policy.ADMINISTER,
    audited=True,
    body=Purge,
    body_optional=True,
    answer=Purged,
    streams=True,
)
async def purge_old(call: Call) -> Purged:
    """Remove finished jobs, outputs and events that were kept long enough, or say what would go."""
    body: Purge = call.body
    settings = call.context.settings.retention
    limits = settings
    if body.older_than_s is not None:
        limits = msgspec.structs.replace(UNLIMITED, job_age_s=body.older_than_s)
    checkpoints = body.checkpoints or (settings.checkpoints and body.older_than_s is None)
    retention = call.context.retention
    if body.dry_run:
        done = await retention.plan(limits, checkpoints=checkpoints)
    else:
        done = await retention.purge(limits, checkpoints=checkpoints, by=call.caller.user)
    return Purged(
        dry_run=body.dry_run,
        jobs=len(done.jobs),
        job_ids=list(done.jobs[:1000]),
        outputs=done.outputs,
        events=done.events,
        bytes=done.bytes,
    )
