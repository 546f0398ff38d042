"""Slurm's variables of a batch script's job."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leptond.client.sbatch import SET, SWITCH
from leptond.core.admission.admission import SLURM
from leptond.core.jobs.model import Job
from leptond.engines.slurm import variables, wanted
from tests.unit.core.jobs.test_model import job_of


def job(*, env: dict[str, str] | None = None, **asked: Any) -> Job:
    """The job of a batch script, as the queue stores it; of an array, its first member."""
    return job_of(env={SLURM: "1", **(env or {})}, **asked)


def test_only_a_job_that_asks_for_them_has_them():
    assert SWITCH == SLURM
    assert wanted(job())
    assert not wanted(job_of())
    assert not wanted(job(env={SLURM: "0"}))


def test_none_of_them_looks_like_the_launch_of_a_cluster():
    found = variables(job(gpus=2, array="0-8:2%2", project="p"), 3)
    assert set(found) | {"SLURM_CPUS_PER_TASK"} == SET, "the command line knows what is set"
    assert found["SLURM_JOB_NAME"] != "interactive"
    detect = {"SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_ID", "SLURM_JOBID"}
    assert not detect & set(found)


def test_the_submit_directory_is_where_it_runs_unless_the_environment_says_otherwise():
    assert variables(job(cwd="/work"), 1)["SLURM_SUBMIT_DIR"] == "/work"
    assert variables(job(env={"SLURM_SUBMIT_DIR": "/here"}), 1)["SLURM_SUBMIT_DIR"] == "/here"


def test_a_restart_is_counted_from_the_second_attempt_on():
    assert "SLURM_RESTART_COUNT" not in variables(job(), 1)
    assert variables(job(), 3)["SLURM_RESTART_COUNT"] == "2"


@pytest.mark.parametrize(
    ("array", "index", "count", "last", "step"),
    [("0-9%4", 0, 10, 9, 1), ("1,5,9", 1, 3, 9, 4), ("7", 7, 1, 7, 1), ("2-17:5", 2, 4, 17, 5)],
)
def test_the_first_member_of_an_array(array: str, index: int, count: int, last: int, step: int):
    member = job(array=array)
    found = variables(member, 1)
    names = ("JOB_ID", "TASK_ID", "TASK_COUNT", "TASK_MIN", "TASK_MAX", "TASK_STEP")
    assert [found[f"SLURM_ARRAY_{name}"] for name in names] == [
        str(one) for one in (member.array_id, index, count, index, last, step)
    ]
    assert found["SLURM_JOB_ID"] == str(member.id)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40, unique=True))
def test_the_bounds_of_any_array_are_those_of_its_indices(indices: list[int]):
    spec = replace(MEMBER.spec, array=",".join(map(str, indices)))
    found = variables(replace(MEMBER, spec=spec, array_index=indices[0]), 1)
    bounds = [found[f"SLURM_ARRAY_TASK_{name}"] for name in ("ID", "MIN", "MAX", "COUNT")]
    assert bounds == [str(one) for one in (indices[0], min(indices), max(indices), len(indices))]


def test_a_trial_of_a_sweep_has_no_bounds():
    found = variables(replace(MEMBER, spec=replace(MEMBER.spec, array=None), array_index=3), 1)
    assert (found["SLURM_ARRAY_TASK_ID"], "SLURM_ARRAY_TASK_MAX" in found) == ("3", False)


MEMBER = job(array="0-1")
