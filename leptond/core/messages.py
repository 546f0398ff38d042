"""Messages about events for people, in chats and mails. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from leptond.core.jobs.states import State
from leptond.core.jobs.timespec import spell_duration


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """`kind` is apprise's, which chooses colours and icons."""

    title: str
    body: str
    kind: Literal["info", "success", "warning", "failure"] = "info"


def message_for(event: str, data: Mapping[str, Any], job: Mapping[str, Any] | None) -> Message:
    """Describe an event. `job`: the job's JSON fields, if it is about one.

    >>> message_for("job.ended", {}, {"id": 47, "name": "llama", "state": "failed", "user": "ana",
    ...     "explanation": "failed with exit code 3", "gpus": 2}).title
    'job 47 (llama) failed'
    """
    if job is None:
        if event == "gpu.state":
            return _gpu(data)
        return Message(title=f"leptond: {event}", body=msgspec.json.encode(data).decode())
    who = f"job {job.get('ref') or job['id']} ({job['name']})"
    about = f"{job['user']}, {job['gpus']} GPUs" if job["gpus"] else f"{job['user']}, no GPU"
    if event == "job.ended":
        good = job["state"] == State.SUCCEEDED
        ran = _ran(job)
        lines = [job.get("explanation"), f"ran for {ran}" if ran else None, about]
        kind: Literal["success", "failure", "info"] = (
            "success" if good else "info" if job["state"] == State.CANCELLED else "failure"
        )
        return Message(
            title=f"{who} {str(job['state']).replace('_', ' ')}",
            body="\n".join(part for part in lines if part),
            kind=kind,
        )
    if event == "job.requeued":
        lines = [data.get("explanation"), data.get("retry"), about]
        return Message(
            title=f"{who} is tried again", body="\n".join(part for part in lines if part), kind="warning"
        )
    if event in ("job.source_changed", "job.output_failed", "job.left_behind", "job.gpu_not_given"):
        title = f"{who}: {event.partition('.')[2].replace('_', ' ')}"
        return Message(title=title, body=f"{data.get('text', '')}\n{about}", kind="warning")
    state = f": {data['to']}" if event == "job.state" and "to" in data else ""
    return Message(title=f"{who}: {event.partition('.')[2]}{state}", body=about)


def _ran(job: Mapping[str, Any]) -> str | None:
    began, ended = job.get("started_at"), job.get("ended_at")
    return spell_duration(round(ended - began)) if began is not None and ended is not None else None


def _gpu(data: Mapping[str, Any]) -> Message:
    which = f"GPU {data['index']}" if "index" in data else f"GPU {data.get('uuid', '')}"
    if data.get("drained"):
        return Message(title=f"{which} is drained", body=str(data.get("reason") or ""), kind="warning")
    if data.get("present") is False:
        return Message(title=f"{which} is gone", body=str(data.get("reason") or ""), kind="failure")
    return Message(title=f"{which} is in service", body=str(data.get("uuid") or ""))
