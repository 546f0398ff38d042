"""Slurm's variables for a job that comes from a batch script. Pure.

They are those by which a script knows its job: the id, the index in its array, the directory. None says that
there are several tasks and which of them this is (SLURM_NTASKS, SLURM_PROCID, SLURM_LOCALID, ...): Lightning,
JAX and many hand-written programs take these for the launch by srun of a cluster, and then start no ranks of
their own or wait for others. SLURM_JOBID is left out for the same reason: mpirun asks Slurm for hosts where
that is set."""

from __future__ import annotations

from itertools import islice

from leptond.core.admission.admission import SLURM
from leptond.core.jobs.arrays import parse_array
from leptond.core.jobs.model import DEFAULT_QUEUE, MAX_ARRAY, Job


def wanted(job: Job) -> bool:
    """Return True if the job asks for these variables."""
    return job.spec.env.get(SLURM) == "1"


def variables(job: Job, number: int) -> dict[str, str]:
    """Return the variables of attempt `number`; what the job's own environment says of the others stays."""
    found = {
        "SLURM_JOB_ID": str(job.id),
        "SLURM_JOB_NAME": job.name,
        "SLURM_JOB_USER": job.user,
        "SLURM_JOB_PARTITION": job.queue or DEFAULT_QUEUE,
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NNODES": "1",
        "SLURM_SUBMIT_DIR": job.spec.env.get("SLURM_SUBMIT_DIR") or job.spec.cwd or "/",
    }
    if job.project is not None:
        found["SLURM_JOB_ACCOUNT"] = job.project
    if job.gpus:
        found["SLURM_GPUS"] = found["SLURM_GPUS_ON_NODE"] = str(job.gpus)
    if number > 1:
        found["SLURM_RESTART_COUNT"] = str(number - 1)
    return found | _of_the_array(job)


def _of_the_array(job: Job) -> dict[str, str]:
    if job.array_index is None:
        return {}
    found = {"SLURM_ARRAY_JOB_ID": str(job.array_id), "SLURM_ARRAY_TASK_ID": str(job.array_index)}
    if job.spec.array is None:  # a trial of a sweep
        return found
    indices, _ = parse_array(job.spec.array, max_members=MAX_ARRAY)
    first, *second = islice(iter(indices), 2)
    return found | {
        "SLURM_ARRAY_TASK_COUNT": str(len(indices)),
        "SLURM_ARRAY_TASK_MIN": str(first),
        "SLURM_ARRAY_TASK_MAX": str(indices[-1]),
        "SLURM_ARRAY_TASK_STEP": str(second[0] - first if second else 1),
    }
