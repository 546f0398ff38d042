"""The methods of both clients, each declared once: :class:`Methods`.

A declaration builds a request (:mod:`leptond.client.request`) and decorates itself with :class:`answered` or
:class:`iterated`. A class that derives from Methods and a runner gets a function for each: with its name,
docstring and signature, and with what the runner makes of the request as its result. For type checkers the
decorators are descriptors that say the same: on :class:`leptond.Client` ``job(47)`` is a Job, on
:class:`leptond.AsyncClient` a coroutine of one.
"""

from __future__ import annotations

import functools
import inspect
import os
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, Unpack, overload
from urllib.parse import quote

import msgspec

from leptond import schema
from leptond.base.usage import UsageError
from leptond.client.errors import ClientError, own_problem
from leptond.client.job_spec import complete, has_directives
from leptond.client.request import (
    IDEMPOTENCY_KEY,
    PAGE,
    AsyncRunner,
    LongPoll,
    Many,
    One,
    Pages,
    Request,
    Stream,
    SyncRunner,
    decoded,
)
from leptond.client.server_events import ServerEvent
from leptond.client.typed_fields import JobChanges, JobFields
from leptond.core.jobs.states import TERMINAL
from leptond.schema import sweeps

P = ParamSpec("P")
T = TypeVar("T")

Ref = int | str
"""A job: its id, or ``47_3`` for a member of an array."""


class answered(Generic[P, T]):  # a decorator
    """Declares a method with one value as its result; the function builds the request."""

    def __init__(self, build: Callable[Concatenate[Any, P], One[T]]) -> None:
        self._build = build

    @overload
    def __get__(self, client: SyncRunner, owner: type[Any] | None = None) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, client: AsyncRunner, owner: type[Any] | None = None
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, owner: type[SyncRunner]) -> Callable[Concatenate[Any, P], T]: ...
    @overload
    def __get__(
        self, client: None, owner: type[AsyncRunner]
    ) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, owner: type[Any] | None = None) -> Any:
        return self  # reached on Methods alone: its clients have functions in this place

    def function_for(self, owner: type[Any]) -> Callable[..., Any]:
        """The method of the class `owner`."""
        build = self._build
        made: Callable[..., Any]
        if issubclass(owner, AsyncRunner):

            async def made(client: AsyncRunner, *args: P.args, **kwargs: P.kwargs) -> T:
                return await client._run(build(client, *args, **kwargs))
        else:

            def made(client: SyncRunner, *args: P.args, **kwargs: P.kwargs) -> T:
                return client._run(build(client, *args, **kwargs))

        return _named(made, build, owner, "{}")


class iterated(Generic[P, T]):  # a decorator
    """Declares a method with any number of items as its result; the function builds the request."""

    def __init__(self, build: Callable[Concatenate[Any, P], Many[T]]) -> None:
        self._build = build

    @overload
    def __get__(self, client: SyncRunner, owner: type[Any] | None = None) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(
        self, client: AsyncRunner, owner: type[Any] | None = None
    ) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(
        self, client: None, owner: type[SyncRunner]
    ) -> Callable[Concatenate[Any, P], Iterator[T]]: ...
    @overload
    def __get__(
        self, client: None, owner: type[AsyncRunner]
    ) -> Callable[Concatenate[Any, P], AsyncIterator[T]]: ...
    def __get__(self, client: Any, owner: type[Any] | None = None) -> Any:
        return self  # reached on Methods alone: its clients have functions in this place

    def function_for(self, owner: type[Any]) -> Callable[..., Any]:
        """The method of the class `owner`."""
        build = self._build

        def made(client: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
            return client._iterate(build(client, *args, **kwargs))

        kind = AsyncIterator if issubclass(owner, AsyncRunner) else Iterator
        return _named(made, build, owner, f"{kind.__name__}[{{}}]")


def _named(
    made: Callable[..., Any], build: Callable[..., Any], owner: type[Any], result: str
) -> Callable[..., Any]:
    """`made` with the name, docstring and signature of `build`. `result` is the form of what it returns,
    with a place for the type that `build` names in brackets."""
    functools.update_wrapper(made, build)
    signature = inspect.signature(build)
    returns = result.format(str(signature.return_annotation).partition("[")[2].removesuffix("]"))
    client, *others = signature.parameters.values()
    client = client.replace(kind=client.POSITIONAL_OR_KEYWORD)  # beside **options a checker wants it apart
    made.__qualname__ = f"{owner.__qualname__}.{build.__name__}"
    made.__annotations__ = {**build.__annotations__, "return": returns}
    made.__dict__["__signature__"] = signature.replace(
        parameters=[client, *others], return_annotation=returns
    )
    return made


class Methods:
    """The methods of both clients. Each raises ClientError."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Methods in cls.__bases__:  # a class below that may have methods of its own in their place
            for name, declared in vars(Methods).items():
                if isinstance(declared, answered | iterated):
                    setattr(cls, name, declared.function_for(cls))

    @answered
    def submit(
        self, /, argv: Sequence[str] | str, *, export: str | None = None, **spec: Unpack[JobFields]
    ) -> One[schema.Submitted]:
        """Queue a command (a list of words; one string is a line for a shell), as ``leptonctl submit`` does
        here: from this directory (else ``cwd=``), with its program found on this PATH, this environment's
        PATH and virtual environment (`export`: as ``--export``), and a copy of a shell script. `spec`: the
        fields of JobSpec, such as gpus=1, time_limit_s=3600, retries=2, env={...}. Durable when it returns,
        and one job even if the connection broke meanwhile."""
        line = isinstance(argv, str)
        asked = {"argv": [argv], "shell": True, **spec} if line else {"argv": argv, **spec}
        body = _from_here(asked, export)
        return _created("/v1/jobs", body, decoded(schema.Submitted))

    @answered
    def submit_many(
        self, specs: Sequence[Mapping[str, Any]], *, export: str | None = None
    ) -> One[list[schema.Submitted]]:
        """Queue many jobs, all or none. Each has ``argv`` and further fields of JobSpec, and is completed as
        by :meth:`submit`."""
        body = {"jobs": [_from_here(spec, export) for spec in specs]}
        read = decoded(schema.BatchSubmitted)
        return _created("/v1/jobs:batch", body, lambda data: read(data).jobs)

    @answered
    def sweep(
        self, /, job: Mapping[str, Any], *, export: str | None = None, **asked: Any
    ) -> One[sweeps.SweepSubmitted]:
        """Queue a sweep, all of its trials or none. `job`: ``argv`` and further fields of JobSpec, completed
        as by :meth:`submit`; `asked`: the other fields of NewSweep, such as grid={"lr": [1e-3, 1e-4]},
        random={"wd": "log:1e-4..1e-1"}, trials=20. Its trials are an array of the same number
        (:meth:`cancel_array`)."""
        body = {"job": _from_here(job, export), **asked}
        return _created("/v1/sweeps", body, decoded(sweeps.SweepSubmitted))

    @answered
    def sweep_results(self, sweep_id: int) -> One[sweeps.Sweep]:
        """A sweep with its trials as they are now, and which is the best."""
        return _got(f"/v1/sweeps/{sweep_id}", sweeps.Sweep)

    @answered
    def job(self, ref: Ref) -> One[schema.Job]:
        """A job with its attempts."""
        return _got(_job(ref), schema.Job)

    @iterated
    def jobs(self, /, **query: Any) -> Many[schema.Job]:
        """Jobs, newest first; `query` as in GET /v1/jobs (state="running,pending", user=, project=, name=,
        order="queue")."""

        def page(cursor: str | None) -> Request[schema.JobPage]:
            here = {} if cursor is None else {"cursor": cursor}
            return _got("/v1/jobs", schema.JobPage, {**query, "limit": PAGE, **here})

        return Pages(request=page)

    @answered
    def wait(self, ref: Ref, timeout_s: float | None = None) -> One[schema.Job]:
        """Wait until a job has ended, through restarts of the daemon, and return it. Raises TimeoutError."""

        def waiting(wait_s: float) -> Request[schema.Job]:
            query = {"wait_s": f"{wait_s:g}"} if wait_s > 0 else {}
            return Request(method="GET", path=_job(ref), query=query, wait_s=wait_s, read=decoded(schema.Job))

        return LongPoll(
            request=waiting,
            done=lambda job: job.state in TERMINAL,
            late=lambda job: f"job {job.ref} is {job.state} after {timeout_s:g} s",
            timeout_s=timeout_s,
        )

    @iterated
    def logs(self, ref: Ref, *, attempt: int | None = None, follow: bool = False) -> Many[str]:
        """A job's output, in pieces of text. With `follow` as it comes, through retries, until the job
        ends."""
        query = _given(attempt=attempt)
        if follow:
            return Stream(path=f"{_job(ref)}/log/stream", query=query, read=_log_text)
        return Request(
            method="GET",
            path=f"{_job(ref)}/log",
            query=query,
            read=lambda data: data.decode("utf-8", "replace"),
        )

    @iterated
    def events(self, *, since: int | None = None, job: int | None = None) -> Many[schema.Event]:
        """Events as they happen, after event `since` (None: from now on), without end. Resumes by itself
        where it was when the connection breaks."""
        return Stream(path="/v1/events", query=_given(since=since, job=job), read=_event)

    @answered
    def cancel(self, ref: Ref, *, grace_s: float | None = None) -> One[schema.Job]:
        """Cancel a job; a running one gets its stop signal and its grace."""
        return _posted(f"{_job(ref)}/cancel", schema.Job, _given(grace_s=grace_s))

    @answered
    def hold(self, ref: Ref) -> One[schema.Job]:
        """Keep a pending job from starting."""
        return _posted(f"{_job(ref)}/hold", schema.Job)

    @answered
    def release(self, ref: Ref) -> One[schema.Job]:
        """Let a held job start."""
        return _posted(f"{_job(ref)}/release", schema.Job)

    @answered
    def cancel_array(self, array_id: int, *, grace_s: float | None = None) -> One[schema.ArrayChanged]:
        """Cancel all members of an array that have not ended."""
        return _posted(f"/v1/arrays/{array_id}/cancel", schema.ArrayChanged, _given(grace_s=grace_s))

    @answered
    def hold_array(self, array_id: int) -> One[schema.ArrayChanged]:
        """Keep all pending members of an array from starting."""
        return _posted(f"/v1/arrays/{array_id}/hold", schema.ArrayChanged)

    @answered
    def release_array(self, array_id: int) -> One[schema.ArrayChanged]:
        """Let all held members of an array start."""
        return _posted(f"/v1/arrays/{array_id}/release", schema.ArrayChanged)

    @answered
    def retry(self, /, ref: Ref, **changes: Unpack[JobChanges]) -> One[schema.Submitted]:
        """Run an ended job again, as a copy with these changes that shares its checkpoints."""
        return _posted(f"{_job(ref)}/retry", schema.Submitted, changes)

    @answered
    def edit(self, /, ref: Ref, **changes: Unpack[JobChanges]) -> One[schema.Job]:
        """Change a job's priority, name, project, labels; of a pending job also time_limit_s, gpus,
        retries."""
        return Request(method="PATCH", path=_job(ref), body=changes, read=decoded(schema.Job))

    @answered
    def script(self, ref: Ref) -> One[str]:
        """The script that a job runs, as it was at the submit."""
        return Request(
            method="GET", path=f"{_job(ref)}/script", read=lambda data: data.decode("utf-8", "replace")
        )

    @answered
    def why(self, ref: Ref) -> One[schema.Why]:
        """The reason why a job does not run, and what would let it start."""
        return _got(f"{_job(ref)}/why", schema.Why)

    @answered
    def status(self) -> One[schema.Status]:
        """The jobs that run and wait, the GPUs, and whether all is well."""
        return _got("/v1/status", schema.Status)

    @answered
    def gpus(self) -> One[list[schema.Gpu]]:
        """The GPUs and the jobs that have them."""
        read = decoded(schema.GpuList)
        return Request(method="GET", path="/v1/gpus", read=lambda data: read(data).items)


def _from_here(spec: Mapping[str, Any], export: str | None) -> dict[str, Any]:
    """A spec with what it takes from this process (:func:`leptond.client.job_spec.complete`), whose words to
    the user are warnings. Raises ClientError."""
    try:
        made, notes = complete(spec, os.environ, export=export)
        if has_directives(str(made.get("script") or "")):
            notes = (*notes, _UNREAD)
    except UsageError as error:
        raise ClientError(own_problem("usage", "The call is wrong", str(error), None), exit_code=2) from None
    for note in notes:
        warnings.warn(note, stacklevel=4)
    return made


_UNREAD = (
    "the #LEPTON and #SBATCH lines of a script are options of leptonctl alone; here they are comments: say"
    " what they ask for as keywords"
)


def _job(ref: Ref) -> str:
    return f"/v1/jobs/{quote(str(ref), safe='')}"


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _got(path: str, kind: type[T], query: Mapping[str, Any] | None = None) -> Request[T]:
    return Request(method="GET", path=path, query=query or {}, read=decoded(kind))


def _posted(path: str, kind: type[T], body: Any = None) -> Request[T]:
    return Request(method="POST", path=path, body=body, read=decoded(kind))


def _created(path: str, body: Any, read: Callable[[bytes], T]) -> Request[T]:
    """A POST that is one creation however often it is sent. What the daemon wants its user to know is told as
    a warning."""

    def told(data: bytes) -> T:
        made = read(data)
        for one in made if isinstance(made, list) else [made]:
            for text in getattr(one, "warnings", []):
                warnings.warn(text, stacklevel=2)
        return made

    headers = {IDEMPOTENCY_KEY: str(uuid.uuid4())}
    return Request(method="POST", path=path, body=body, headers=headers, read=told)


def _log_text(event: ServerEvent) -> str | None:
    data = event.json()
    return str(data["text"]) if event.type == "log.chunk" and data is not None else None


def _event(event: ServerEvent) -> schema.Event | None:
    return None if event.id is None else msgspec.json.decode(event.data, type=schema.Event)
