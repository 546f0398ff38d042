"""Which jobs are prepared ahead of their turn, and when that is still right."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import ExitRecord, Job, JobSpec
from leptond.core.scheduling.standby import ended_well, same_launch, standby_changes
from leptond.store.database import rows
from leptond.store.queue import jobs as job_rows
from tests.simulation.store import database

IDS = st.lists(st.integers(1, 12), unique=True, max_size=12)


def made() -> Job:
    db = database()
    admitted = admit(JobSpec(argv=["true"]), gpus=0, home="/", defaults=Defaults())
    job_rows.submit(db, [admitted], user="ada", now=1.0, max_pending=10)
    return rows.job(db.execute("SELECT * FROM jobs").fetchone())


JOB = made()


def named(ids: list[int], **changes: object) -> dict[int, Job]:
    return {id: replace(JOB, id=id, **changes) for id in ids}


@given(prepared=IDS, wanted=IDS, gone=st.sets(st.integers(1, 12)), edited=st.sets(st.integers(1, 12)))
def test_what_may_be_of_use_stays_and_nothing_is_prepared_twice(prepared, wanted, gone, edited):
    places = 4
    here = named(prepared[:places])
    pending = {id: job for id, job in here.items() if id not in gone}
    pending |= {id: replace(job, time_limit_s=9.0) for id, job in pending.items() if id in edited}
    fresh, away = standby_changes(here, list(named(wanted).values()), pending, places)
    stay = set(here) - set(away)
    assert len(stay) + len(fresh) <= places
    assert not {job.id for job in fresh} & set(here)
    assert set(away) <= set(here)
    assert len(away) == len(set(away))
    assert not stay & (gone | edited), "what was prepared for them is of no use"
    useful = set(here) - gone - edited
    assert useful & set(wanted[:places]) <= stay, "what is likely to start next stays"
    if len(useful) + len({id for id in wanted[:places] if id not in here}) <= places:
        assert stay == useful, "all that is of use stays while there is room"


def test_only_a_change_that_its_process_is_given_makes_a_preparation_useless():
    assert same_launch(JOB, replace(JOB, submitted_at=7.0, predicted_s=3.0, version=9))
    for change in (
        {"attempt": 1},
        {"time_limit_s": 5.0},
        {"spec": replace(JOB.spec, env={"A": "1"})},
        {"gpus": 2},
        {"tuned_version": 1},
        {"name": "other"},
    ):
        assert not same_launch(JOB, replace(JOB, **change)), change


def test_only_a_clean_end_hands_over_before_it_is_judged():
    clean = ExitRecord(attempt_id="a", boot_id="b", exit_code=0)
    assert ended_well(clean)
    for change in (
        {"exit_code": 1},
        {"exit_code": None, "signal": 9},
        {"stop_reason": "preempt"},
        {"unkillable": 1},
        {"killed": True},
        {"exec_error": "x"},
        {"oom_kills": 1},
    ):
        assert not ended_well(replace(clean, **change)), change
