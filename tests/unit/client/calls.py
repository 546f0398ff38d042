"""A stand-in for a daemon that carries out calls of an executor in this process: :class:`Calls`."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from leptond import call, schema
from leptond.core.jobs.states import State
from tests.unit.cli.stub import Answer, Asked, Stub, ended, make_job, make_status, page


class Calls:
    """Answers what an executor asks. A job waits until :meth:`run` or :meth:`end` ends it; each end is an
    event."""

    def __init__(self, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stub = stub
        self.jobs: dict[int, schema.Job] = {}
        self._events: queue.Queue[bytes] = queue.Queue()
        self._monkeypatch = monkeypatch
        stub.on("GET", "/v1/status", make_status())
        stub.on("POST", "/v1/jobs", lambda asked: Answer(self._submit(asked.body), status=201))
        stub.on("POST", "/v1/jobs:batch", self._batch)
        stub.on("GET", "/v1/events", lambda _: Answer(pieces=self._stream()))
        stub.on("GET", "/v1/jobs", page())

    def run(self, number: int, *, code: int = 0) -> None:
        """Does the call of a job, and ends the job as the call did."""
        self._monkeypatch.setenv("LEPTOND_JOB_ID", str(number))
        path = self.jobs[number].spec.argv[-1]
        code = call.main([path]) or code
        self.end(number, State.FAILED if code else State.SUCCEEDED, exit_code=code)

    def end(self, number: int, state: State, **changes: Any) -> None:
        """Ends a job without a call."""
        spec = self.jobs[number].spec
        self._set(ended(state, id=number, ref=str(number), name=self.jobs[number].name, spec=spec, **changes))
        self.tell(number, state)

    def tell(self, number: int, state: State) -> None:
        """Sends an event, as the daemon does after a change."""
        at = make_job().submitted_at.isoformat()
        body = {"id": number, "at": at, "type": "job.state", "job_id": number, "data": {"to": state}}
        self._events.put(b"id: %d\nevent: job.state\ndata: %s\n\n" % (number, msgspec.json.encode(body)))

    def forget(self, number: int) -> None:
        """The daemon no longer knows a job: only a comment of the stream makes the client ask for it."""
        self.stub.on("GET", f"/v1/jobs/{number}", Answer({"detail": "there is no job"}, status=404))
        self._events.put(b": alive\n\n")

    def close(self) -> None:
        """Ends the streams."""
        self._events.put(b"")

    def _submit(self, body: dict[str, Any]) -> schema.Submitted:
        number = 47 + len(self.jobs)
        spec = msgspec.structs.replace(make_job().spec, argv=body["argv"], cwd=body["cwd"], env=body["env"])
        self._set(make_job(id=number, name=body["name"], spec=spec))
        self.stub.on("GET", f"/v1/jobs/{number}/log", Answer(pieces=[b"first line\nlast line\n"]))
        return schema.Submitted(id=number, ids=[number], name=body["name"], state=State.PENDING)

    def _batch(self, asked: Asked) -> Answer:
        return Answer(schema.BatchSubmitted(jobs=[self._submit(job) for job in asked.body["jobs"]]))

    def _set(self, job: schema.Job) -> None:
        self.jobs[job.id] = job
        path = f"/v1/jobs/{job.id}"
        self.stub.on("GET", path, job)
        self.stub.on("POST", f"{path}/hold", job)
        self.stub.on("POST", f"{path}/cancel", lambda _: Answer(self._cancelled(job)))

    def _cancelled(self, job: schema.Job) -> schema.Job:
        self.end(job.id, State.CANCELLED)
        return self.jobs[job.id]

    def _stream(self) -> Iterator[bytes]:
        yield b'event: hello\ndata: {"last_event_id": 0}\n\n'
        while piece := self._events.get():
            yield piece
