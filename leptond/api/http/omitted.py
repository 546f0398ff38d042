"""Which jobs of a body do not say how many GPUs they need: decoded, they look like those that say 0."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class _Job(msgspec.Struct):
    gpus: int | UnsetType = UNSET


class _Batch(msgspec.Struct):
    jobs: list[_Job]


class _Sweep(msgspec.Struct):
    job: _Job


_job = msgspec.json.Decoder(_Job).decode
_batch = msgspec.json.Decoder(_Batch).decode
_sweep = msgspec.json.Decoder(_Sweep).decode


def gpus_of_job(raw: bytes) -> bool:
    """Return True for the body of a job that does not say it."""
    return _job(raw).gpus is UNSET


def gpus_of_batch(raw: bytes) -> list[bool]:
    """Return the same for each job of a batch."""
    return [job.gpus is UNSET for job in _batch(raw).jobs]


def gpus_of_sweep(raw: bytes) -> bool:
    """Return the same for the job of a sweep."""
    return _sweep(raw).job.gpus is UNSET
