"""The known facts about an attempt's end, before anything is concluded from it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from leptond.core.jobs.model import FINAL_STOPS, Attempt, ExitRecord, StopReason


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """A word of a job about its own end (:func:`leptond.job.leave`): resume, limit or diverged."""

    attempt_id: str
    reason: str
    detail: str = ""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an attempt: the shim's record, or, without one, why there is none. `output_at`: when its
    output was last written, UTC seconds."""

    record: ExitRecord | None
    boot_changed: bool = False
    shim_lost: bool = False
    error_file: str | None = None
    word: Word | None = None
    log_tail: str = ""
    output_at: float | None = None


class MemoryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence about memory at an attempt's end. `own_overran`: it used more than its share. `others`: what
    others used beyond theirs. `notes`: all of it, as sentences."""

    own_overran: bool = False
    others: Sequence[str] = ()
    notes: Sequence[str] = ()


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known about an attempt's end. `log_tail` is the last 64 KiB of its output, as text;
    `quiet_s` the time from its last output to its end; `error_file` the exception that torchrun recorded
    (TORCHELASTIC_ERROR_FILE), if any. `gpu_faults`: what the driver says against its GPUs. `secrets` are not
    to be quoted. `own_overran`: it had more of a shared GPU's memory than its share; `foreign_gpu_memory`:
    others had memory on its GPUs that was not theirs to have; `memory_notes` are the sentences about both.
    `mem_bytes`: its own limit of the machine's memory; `over_memory_bytes`: what it used above that when
    leptond ended it. `stop_note`: why leptond stopped it, in words. `warned_by`: the signal that leptond sent
    to warn it of its time limit."""

    stop_reason: str | None = None
    stop_note: str | None = None
    boot_changed: bool = False
    shim_lost: bool = False
    never_started: bool = False
    exec_error: str | None = None
    exec_errno: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    run_s: float = 0.0
    oom_kills: int = 0
    over_memory_bytes: int = 0
    peak_mem_bytes: int = 0
    mem_bytes: int | None = None
    unkillable: int = 0
    warned_by: int | None = None
    error_file: str | None = None
    word: Word | None = None
    log_tail: str = ""
    quiet_s: float | None = None
    gpu_faults: Sequence[str] = ()
    secrets: Sequence[str] = ()
    own_overran: bool = False
    foreign_gpu_memory: bool = False
    memory_notes: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        attempt: Attempt,
        end: End,
        memory: MemoryFacts | None = None,
        *,
        mem_bytes: int | None = None,
        gpu_faults: Sequence[str] = (),
        secrets: Sequence[str] = (),
    ) -> Evidence:
        """The evidence about the end of `attempt`: what the engine saw, the stop that was asked for, and
        whose memory was on its GPUs (None: nothing is known)."""
        memory = memory if memory is not None else MemoryFacts()
        seen = cls(
            stop_reason=_stop_reason(attempt, end),
            stop_note=attempt.stop_note,
            boot_changed=end.boot_changed,
            shim_lost=end.shim_lost,
            error_file=end.error_file,
            word=end.word,
            log_tail=end.log_tail,
            gpu_faults=gpu_faults,
            secrets=secrets,
            own_overran=memory.own_overran,
            foreign_gpu_memory=bool(memory.others),
            memory_notes=memory.notes,
            mem_bytes=mem_bytes,
        )
        record = end.record
        if record is None:
            return seen
        return msgspec.structs.replace(
            seen,
            never_started=record.never_started,
            exec_error=record.exec_error,
            exec_errno=record.exec_errno,
            exit_code=record.exit_code,
            signal=record.signal,
            run_s=record.run_s,
            oom_kills=record.oom_kills,
            over_memory_bytes=record.over_memory_bytes,
            peak_mem_bytes=record.peak_mem_bytes,
            unkillable=record.unkillable,
            warned_by=record.warn_signal if record.warned else None,
            quiet_s=_quiet_s(record, end.output_at),
        )


def _quiet_s(record: ExitRecord, output_at: float | None) -> float | None:
    if record.started_at is None or output_at is None:
        return None
    return max(0.0, record.started_at + record.run_s - output_at)


def _stop_reason(attempt: Attempt, end: End) -> str | None:
    """The stop that the end is put down to: the shim's word, where a stop that was asked for does not come
    before it."""
    record, asked = end.record, attempt.stop_reason
    reason = record.stop_reason if record is not None else None
    never_ran = (
        record is None or record.never_started or record.unkillable > 0 or record.exec_error is not None
    )
    if asked in FINAL_STOPS and never_ran:
        reason = asked  # asked for before there was anything to signal
    if asked in FINAL_STOPS and reason == StopReason.PREEMPT:
        reason = asked  # cancelled while it made room
    if asked in (StopReason.TIMEOUT, StopReason.HANG) and record is None and not end.boot_changed:
        reason = asked  # its shim was seen alive when leptond stopped it, and lost later
    return reason
