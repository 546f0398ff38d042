"""The groups of a job's options in the help of `submit`, `run` and `sweep`."""

from __future__ import annotations

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "GPUs and the machine",
        (
            "gpus",
            "gpu_type",
            "gpu_memory_bytes",
            "exclusive",
            "cuda_devices",
            "mem_bytes",
            "cpus",
            "preemptible",
            "urgent",
            "nproc",
        ),
    ),
    (
        "When it starts",
        ("queue", "priority", "after", "after_any", "after_fail", "array", "begin_at", "hold"),
    ),
    ("When it stops", ("time_limit_s", "grace_s", "warn_signal", "no_progress_s")),
    (
        "When it fails",
        (
            "retries",
            "retry_delay_s",
            "retry_max_delay_s",
            "retry_on",
            "no_retry_on",
            "fail_fast",
            "requeue",
        ),
    ),
    (
        "The command",
        ("name", "cwd", "env", "export", "params", "shell", "cold", "ignore_sbatch"),
    ),
    ("Output and records", ("output", "open_mode", "log_max_bytes", "track", "project", "contact", "labels")),
)
"""Headings with the names of their options; what is in none stands under Options."""

HEADINGS = {name: heading for heading, names in GROUPS for name in names}

FEW = 20
"""With fewer options than this one list is easier to read."""
