"""Output of attempts over HTTP: a part of it, its end, or all of it as it comes."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import re
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from leptond import schema
from leptond.api.http.context import Context
from leptond.api.http.routing import Call, Table
from leptond.api.http.sse import PING_S, Stream, last_event_id, open_stream
from leptond.api.routes.jobs import one_job, ref_of
from leptond.attempt_files.output_log import JobLog
from leptond.base.errors import BadRange, BadRequest, Invalid, NotFound, OutputRemoved
from leptond.core.access.policies import Policy
from leptond.core.access.rights import Rights, Sight
from leptond.core.jobs.model import TERMINAL
from leptond.core.jobs.states import AttemptState
from leptond.store.queue import attempts

table = Table("logs")

MAX_PART = 8 * 1024 * 1024
CHUNK = 64 * 1024
POLL_MIN_S, POLL_MAX_S = 0.1, 0.5
_RANGE = re.compile(r"^bytes=([0-9]{1,18})?-([0-9]{1,18})?\Z")


class LogQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`attempt`: the newest, if not given. `offset`: bytes from the beginning of its output. `tail`: its
    last lines instead."""

    attempt: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    offset: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    tail: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PART)] = MAX_PART


def _log_of(context: Context, job: schema.Job, number: int) -> JobLog:
    return JobLog(context.jobs_dir / str(job.id) / str(number))


def _attempt(job: schema.Job, asked: int | None) -> schema.Attempt:
    known = job.attempts if isinstance(job.attempts, list) else []
    found = [one for one in known if asked is None or one.number == asked]
    if not found:
        if asked is None:
            raise NotFound(f"job {job.ref} has not started yet, so it has printed nothing")
        raise NotFound(f"job {job.ref} has no attempt {asked}", hint=f"it has had {len(known)}")
    return found[-1]


def _is_removed(source: JobLog, attempt: schema.Attempt) -> bool:
    """Return True if an attempt has had output that is gone. Its file is made before its command starts."""
    begun = attempt.log_bytes > 0 or (attempt.state is AttemptState.RUNNING and attempt.pid is not None)
    return begun and not source.is_there()


@table.route(
    "GET",
    "/v1/jobs/{ref}/log",
    Policy.LOOK,
    headers={"Range": "one range of bytes of the output"},
    query=LogQuery,
    answer=str,
    media="text/plain",
    also=(206,),
    errors=(404, 416),
)
async def log(call: Call) -> web.Response:
    """The output of an attempt, or a part of it; X-Log-Next-Offset is where to go on."""
    query: LogQuery = call.query
    job = await one_job(call.context, ref_of(call), call.rights, Sight.ALL)
    attempt = _attempt(job, query.attempt)
    source = _log_of(call.context, job, attempt.number)
    size = await asyncio.to_thread(source.size)
    if await asyncio.to_thread(_is_removed, source, attempt):
        raise OutputRemoved(job.ref, attempt.number, attempt.log_bytes)
    offset, limit, status = query.offset or 0, query.limit, 200
    if query.tail is not None:
        if query.offset is not None:
            raise Invalid("offset and tail exclude each other", pointer="/tail")
        offset = await asyncio.to_thread(source.tail, query.tail)
    headers = {"X-Log-Attempt": str(attempt.number), "X-Log-Size": str(size)}
    asked = call.request.headers.get("Range")
    if asked is not None:
        part = _range(asked, size)
        if part is None:
            raise BadRange(
                f"the output has {size} bytes",
                hint="ask for a range within them",
                headers={**headers, "Content-Range": f"bytes */{size}"},
            )
        offset, limit, status = part[0], min(limit, part[1] - part[0] + 1), 206
    data, end, dropped = await asyncio.to_thread(_read, source, offset, limit)
    headers |= {"X-Log-Next-Offset": str(end), "X-Log-Dropped": str(dropped), "Accept-Ranges": "bytes"}
    if status == 206:
        headers["Content-Range"] = f"bytes {end - len(data)}-{max(end - 1, 0)}/{size}"
    return web.Response(body=data, status=status, headers=headers, content_type="text/plain", charset="utf-8")


def _read(source: JobLog, offset: int, limit: int) -> tuple[bytes, int, int]:
    """Read at most `limit` bytes from `offset` on, across segments. Returns the bytes, where they end, and
    how many were not kept in between."""
    parts: list[bytes] = []
    dropped = 0
    while limit > 0:
        data, after, skipped = source.read(offset, limit)
        if not data:
            break
        if skipped:
            dropped += skipped
            parts.append(f"\n[leptond: {skipped} bytes of output were not kept]\n".encode())
        parts.append(data)
        limit -= len(data)
        offset = after
    return b"".join(parts), offset, dropped


def _range(text: str, size: int) -> tuple[int, int] | None:
    """Return first and last byte of a Range header; None where the output has none of them. Raises
    BadRequest."""
    match = _RANGE.match(text.strip())
    if match is None or (match[1] is None and match[2] is None):
        raise BadRequest("only one range of bytes can be asked for, such as bytes=0-999")
    if match[1] is None:
        length = int(match[2])
        return (max(0, size - length), size - 1) if length and size else None
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] is not None else size - 1
    return (first, last) if first <= last else None


@table.route(
    "GET",
    "/v1/jobs/{ref}/log/stream",
    Policy.LOOK,
    headers={"Last-Event-ID": "resumes after this event"},
    query=LogQuery,
    answer=str,
    media="text/event-stream",
    errors=(404,),
    streams=True,
)
async def follow(call: Call) -> web.StreamResponse:
    """Follow the output as server-sent events; without `attempt`, through retries until the job ends."""
    query: LogQuery = call.query
    context, ref, rights = call.context, ref_of(call), call.rights
    job = await one_job(context, ref, rights, Sight.ALL)
    number, offset = query.attempt, query.offset or 0
    resume = last_event_id(call.request)
    if resume is not None:
        match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,18})", resume)
        if match is None:
            raise BadRequest("Last-Event-ID must be the id of a log event")
        number, offset = int(match[1]), int(match[2])
    elif query.tail is not None and (job.attempt or number):
        number = _attempt(job, number).number
        offset = await asyncio.to_thread(_log_of(context, job, number).tail, query.tail)
    if query.attempt is not None:
        _attempt(job, query.attempt)
    stream = await open_stream(call.request)
    with contextlib.suppress(ConnectionError, TimeoutError):  # the reader left, or does not read
        first = number or max(1, job.attempt)
        await _follow(context, stream, ref, rights, first, offset, query.attempt is not None)
    return stream.response


async def _follow(
    context: Context,
    stream: Stream,
    ref: str,
    rights: Rights,
    number: int,
    offset: int,
    only_this: bool,
) -> None:
    while not context.closing.is_set():
        job = await one_job(context, ref, rights, Sight.ALL)
        if job.attempt >= number:
            await _one_attempt(context, stream, job, rights, number, offset)
            if context.closing.is_set():
                return
            job = await one_job(context, ref, rights, Sight.ALL)
            if only_this or (job.state in TERMINAL and job.attempt <= number):
                break
            if job.attempt > number:
                number, offset = number + 1, 0
                continue
            number, offset = number + 1, 0
        if job.state in TERMINAL:
            break
        commit = context.commits.next()
        if (await one_job(context, ref, rights, Sight.ALL)).attempt >= number:
            commit.cancel()
            continue
        if not await context.commits.wait(commit, PING_S):
            await stream.ping()
        if (await one_job(context, ref, rights, Sight.ALL)).state in TERMINAL:
            break
    job = await one_job(context, ref, rights, Sight.ALL)
    end = {
        "state": job.state,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "explanation": job.explanation,
    }
    if not context.closing.is_set():
        await stream.send("end", end)


async def _one_attempt(
    context: Context, stream: Stream, job: schema.Job, rights: Rights, number: int, offset: int
) -> None:
    """Send one attempt's output from `offset` on, until it has ended and all is sent."""
    source = _log_of(context, job, number)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    await stream.send("log.attempt", {"number": number}, id=f"{number}:{offset}")
    pause_s, quiet_s = POLL_MIN_S, 0.0
    while not context.closing.is_set():
        # the state is read first: if the attempt has ended, its last output is in the file
        ended = await context.store.look(attempts.has_ended, job.id, number)
        data, after, skipped = await asyncio.to_thread(source.read, offset, CHUNK)
        if skipped:
            decoder.reset()
            gap = {"attempt": number, "dropped_bytes": skipped, "next_offset": offset + skipped}
            await stream.send("log.gap", gap)
        if data:
            # an id at which a reader may resume must not be inside a character
            text = decoder.decode(data)
            undecoded = len(decoder.getstate()[0])
            if text:
                chunk = {"attempt": number, "offset": after - len(data), "text": text}
                await stream.send("log.chunk", chunk, id=f"{number}:{after - undecoded}")
            offset, pause_s, quiet_s = after, POLL_MIN_S, 0.0
            continue
        if ended:
            rest = decoder.decode(b"", final=True)
            if rest:
                await stream.send("log.chunk", {"attempt": number, "offset": offset, "text": rest})
            attempt = _attempt(await one_job(context, job.ref, rights, Sight.ALL), number)
            if await asyncio.to_thread(_is_removed, source, attempt):
                await stream.send("log.removed", {"attempt": number, "bytes": attempt.log_bytes})
            return
        await asyncio.sleep(pause_s)
        quiet_s += pause_s
        pause_s = min(POLL_MAX_S, pause_s * 1.5)
        if quiet_s >= PING_S:
            quiet_s = 0.0
            await stream.ping()
