"""What the ledger notes while things happen, and what it reads back."""

import contextlib
import sqlite3
from collections import Counter

import msgspec
import pytest

from leptond.base.paths import data_dir
from leptond.core.accounting.ledger import Box, IdleCause, box_totals, ledger_entries
from leptond.core.accounting.prices import Rates, price_of
from leptond.core.accounting.report_types import IdleEnergy, SampledUse
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import ExitRecord, Identity, JobSpec, State
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import Evidence
from leptond.core.scheduling.planner import Start
from leptond.store.accounting import ledger
from leptond.store.database.migrate import available, migrate
from leptond.store.queue import attempts, gpus, jobs

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def db():
    one = sqlite3.connect(":memory:", isolation_level=None)
    one.row_factory = sqlite3.Row
    one.execute("PRAGMA foreign_keys = ON")
    migrate(one, data_dir("migrations"))
    found = [
        gpus.Found(uuid=f"GPU-{i}", index=i, name=H100, memory_bytes=1, simulated=True) for i in range(2)
    ]
    gpus.sync(one, found, 0.0)
    ledger.note_prices(one, 0.0, {f"GPU-{i}": (H100, price_of(H100, Rates())) for i in range(2)})
    yield one
    one.close()


def submit(db, now=1.0, **spec):
    admitted = admit(JobSpec(argv=["true"], **spec), gpus=2, home="/", defaults=Defaults())
    return jobs.submit(db, [admitted], user="ana", now=now, max_pending=100)[0][0].ids[0]


def claim(db, job, *uuids, now, pass_times=None):
    start = Start(id=job, gpus=uuids)
    return attempts.claim(
        db, start, attempt_id=f"{job}@{now}", now=now, boot=now, boot_id="boot", pass_times=pass_times
    ).attempt.id


def run(db, attempt_id, *, start, end, now=None, code=0, **record):
    """The rest of an attempt's life."""
    shim = Identity(boot_id="boot", pid=1, start_ticks=1)
    attempts.started(db, attempt_id, shim=shim, now=start, deadline_at=None)
    now = end if now is None else now
    attempts.finish(
        db,
        attempt_id,
        verdict=classify(Evidence(exit_code=code, run_s=end - start, stop_reason=record.get("stop_reason"))),
        record=ExitRecord(
            attempt_id=attempt_id,
            boot_id="boot",
            exit_code=code,
            started_at=start,
            ended_at=end,
            run_s=end - start,
            **record,
        ),
        now=now,
        boot=now,
        boot_id="boot",
        roll=0.0,
    )


def boxes(db, begin, end):
    """Seconds by box of a window, empty boxes left out; the identity holds."""
    assert ledger.imbalance_ms(db, begin, end) == 0
    seen = ledger.history(db, begin, end)
    entries = ledger_entries(
        ledger.ms(begin), ledger.ms(end), service=seen.service, spans=seen.spans, queue=seen.queue
    )
    return {box: ms / 1000 for box, ms in box_totals(entries).boxes.items() if ms}


def test_a_job_and_the_hand_over_to_the_next(db):
    one, two = submit(db, gpus=1), submit(db, gpus=1)
    run(db, claim(db, one, "GPU-0", now=2.0), start=3.0, end=13.0, now=13.5)
    times = attempts.PassTimes(passed_at=2.5, woken_at=13.6)
    run(db, claim(db, two, "GPU-0", now=14.0, pass_times=times), start=15.0, end=20.0)
    assert boxes(db, 0.0, 30.0) == {Box.PROD: 15.0, Box.GAP: 2.0 + 2.0, Box.EMPTY: 60 - 19.0}


def test_a_daemon_that_was_down_is_named_as_the_cause_of_the_gap(db):
    job = submit(db, gpus=1)
    run(db, claim(db, job, "GPU-0", now=50.0, pass_times=attempts.PassTimes()), start=51.0, end=60.0)
    seen = ledger.history(db, 0.0, 100.0)
    entries = ledger_entries(0, 100_000, service=seen.service, spans=seen.spans, queue=seen.queue)
    assert {(e.cause, e.ms) for e in entries if e.box is Box.GAP} == {("the daemon was down", 50_000)}


def test_a_failure_and_its_retry_are_judged_by_the_jobs_end(db):
    job = submit(db, gpus=2, retries=1)
    first = claim(db, job, "GPU-0", "GPU-1", now=2.0)
    run(db, first, start=2.0, end=12.0, code=1)
    assert boxes(db, 2.0, 12.0) == {Box.LOST: 20.0}
    jobs.retry(db, str(job), user="ana", now=12.0, max_pending=9)
    second = claim(db, job, "GPU-0", "GPU-1", now=13.0)
    run(db, second, start=13.0, end=14.0, code=1)
    assert jobs.find(db, str(job)).state is State.FAILED
    assert boxes(db, 2.0, 12.0) == {Box.FAILED: 20.0}


def test_a_stop_is_timed_by_the_shim(db):
    job = submit(db, gpus=1)
    first = claim(db, job, "GPU-1", now=2.0)
    run(db, first, start=2.0, end=12.0, stop_reason="cancel", stop_sent_after_s=7.0)
    assert boxes(db, 2.0, 12.0) == {Box.CANCEL: 7.0, Box.STOP: 3.0, Box.EMPTY: 10.0}


def test_devices_out_of_service(db):
    gpus.drain(db, "GPU-0", "fan", "me", 10.0)
    ledger.note_service(db, 20.0, {"GPU-1": "no answer"})
    ledger.note_service(db, 21.0, {"GPU-1": "no answer"})
    gpus.drain(db, "GPU-0", None, "me", 30.0)
    ledger.note_service(db, 40.0, {})
    assert boxes(db, 0.0, 50.0) == {Box.OUT: 20.0 + 20.0, Box.EMPTY: 60.0}
    assert db.execute("SELECT count(*) FROM gpu_service").fetchone()[0] == 2 + 4
    found = [gpus.Found(uuid="GPU-0", index=0, name=H100, memory_bytes=1, simulated=True)]
    gpus.sync(db, found, 50.0)
    week = ledger.ABSENT_S
    assert boxes(db, 50.0, 50.0 + 2 * week) == {Box.OUT: week, Box.EMPTY: 2 * week}


def test_the_queue_for_free_gpus(db):
    changes = [
        (10.0, IdleCause.BLOCKED, ""),
        (20.0, IdleCause.FITS, "kept for job 7"),
        (30.0, IdleCause.NO_DEMAND, ""),
    ]
    ledger.note_idle_causes(db, changes)
    assert ledger.newest_idle_cause(db) == (IdleCause.NO_DEMAND, "")
    assert boxes(db, 15.0, 35.0) == {Box.FRAG: 10.0, Box.FITIDLE: 20.0, Box.EMPTY: 10.0}


def test_a_job_that_is_forgotten_leaves_its_time(db):
    job = submit(db, gpus=1, project="vision")
    first = claim(db, job, "GPU-0", now=2.0)
    ledger.add_use(db, [SampledUse(attempt_id=first, gpu="GPU-0", sampled_ms=9000, idle_ms=4000)])
    run(db, first, start=2.0, end=12.0)
    before, facts = boxes(db, 0.0, 20.0), ledger.history(db, 0.0, 20.0).attempts
    jobs.purge(db, str(job), by="ana", now=20.0)
    assert boxes(db, 0.0, 20.0) == before
    (left,) = ledger.history(db, 0.0, 20.0).attempts
    assert left == msgspec.structs.replace(facts[0], submitted=None), "all but what a replay wants"
    assert facts[0].uses[0].idle_ms == 4000


def test_samples_add_up_and_the_first_use_stays_the_first(db):
    first = claim(db, submit(db, gpus=1), "GPU-0", now=2.0)
    for at, energy, load in ((5.0, 1000, 0.2), (6.0, 500, 0.9)):
        use = SampledUse(
            attempt_id=first,
            gpu="GPU-0",
            sampled_ms=1000,
            idle_ms=10,
            energy_mj=energy,
            energy_source="counter",
            first_use_at=at,
            max_utilization=load,
        )
        ledger.add_use(db, [use], [IdleEnergy(hour=1, gpu="GPU-1", energy_mj=7, energy_source="power")])
    ledger.add_use(db, [SampledUse(attempt_id="nobody", gpu="GPU-0", sampled_ms=1)])
    (use,) = ledger.uses(db, first)
    assert (use.sampled_ms, use.idle_ms, use.energy_mj, use.first_use_at) == (2000, 20, 1500, 5.0)
    assert (use.max_utilization, use.max_memory_bytes) == (0.9, None)
    assert tuple(db.execute("SELECT energy_mj FROM idle_energy").fetchone()) == (14,)
    assert db.execute("SELECT count(*) FROM attempt_use").fetchone()[0] == 1
    run(db, first, start=3.0, end=10.0)
    assert boxes(db, 3.0, 10.0)[Box.START] == 2.0, "the first use stands in for the first progress"


def test_what_was_spent_is_booked_at_the_price_of_the_start(db):
    job = submit(db, gpus=2, project="vision")
    first = claim(db, job, "GPU-0", "GPU-1", now=2.0)
    ledger.note_prices(db, 5.0, {"GPU-0": (H100, None), "GPU-1": (H100, None)})
    run(db, first, start=10.0, end=10.0 + 1800)
    row = dict(db.execute("SELECT * FROM spend").fetchone())
    assert row == {
        "day": 0,
        "user": "ana",
        "project": "vision",
        "gpu_ms": 3_600_000,
        "cost_micros": 2_690_000,
        "unpriced_ms": 0,
        "idle_ms": 0,
    }
    run(db, claim(db, submit(db, gpus=1, now=2000.0), "GPU-0", now=2001.0), start=2001.0, end=2002.0)
    assert db.execute("SELECT sum(unpriced_ms), sum(cost_micros) FROM spend").fetchone()[:] == (
        1000,
        2_690_000,
    )


def test_a_share_of_a_gpu_is_booked_by_its_memory(db):
    db.execute("UPDATE gpus SET memory_bytes = ?", (80 << 30,))
    job = submit(db, gpus=1, gpu_memory_bytes=20 << 30)
    run(db, claim(db, job, "GPU-0", now=2.0), start=10.0, end=10.0 + 3600)
    assert tuple(db.execute("SELECT gpu_ms, cost_micros FROM spend").fetchone()) == (900_000, 672_500)


def test_prices_are_noted_when_they_change_and_not_else(db):
    listed = price_of(H100, Rates())
    ledger.note_prices(db, 5.0, {"GPU-0": (H100, listed)})
    assert db.execute("SELECT count(*) FROM gpu_prices").fetchone()[0] == 2
    ledger.note_prices(db, 6.0, {"GPU-0": (H100, price_of(H100, Rates(prices={"H100": 2.0})))})
    assert ledger.price_micros(db, ["GPU-0", "GPU-1"]) == 2_000_000 + 2_690_000
    ledger.note_prices(db, 7.0, {"GPU-0": (H100, None)})
    assert ledger.price_micros(db, ["GPU-0", "GPU-1"]) is None


def test_a_database_from_before_the_ledger_keeps_its_jobs_and_gets_their_past(tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    number, first = available(data_dir("migrations"))[0]
    (old / first.name).write_text(first.read_text())
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    assert migrate(db, old) == [first.name]
    assert number == 1
    db.execute("INSERT INTO gpus VALUES ('GPU-0', 0, 'x', 1, 1, 1, 1, 'fan')")
    db.execute(
        "INSERT INTO jobs (spec, name, user, gpus, submitted_at)"
        " VALUES ('{\"argv\": [\"x\"]}', 'x', 'a', 1, 5)"
    )
    db.execute("UPDATE jobs SET state = 'starting'")
    db.execute("UPDATE jobs SET state = 'succeeded', ended_at = 20, class = 'ok'")
    db.execute(
        "INSERT INTO attempts (id, job_id, number, state, gpus, n_gpus, claimed_at, claimed_boot, boot_id,"
        " started_at, ended_at, class)"
        " VALUES ('a', 1, 1, 'ended', '[{\"uuid\": \"GPU-0\", \"index\": 0}]', 1, 9, 9, 'b', 10, 20, 'ok')"
    )
    migrate(db, data_dir("migrations"))
    assert [tuple(row) for row in db.execute("SELECT * FROM gpu_service")] == [("GPU-0", 9.0, 1, "fan", None)]
    db.execute("UPDATE gpus SET drained = 0, drain_reason = NULL")
    db.execute("UPDATE gpu_service SET drained = NULL")
    assert boxes(db, 0.0, 30.0) == {Box.GAP: 1.0, Box.PROD: 10.0, Box.EMPTY: 10.0}
    db.close()


def test_the_look_into_the_past_uses_its_indexes(db):
    plans = Counter()
    statements = []
    db.set_trace_callback(statements.append)
    ledger.history(db, 1.0, 2.0)
    db.set_trace_callback(None)
    for sql in statements:
        if "attempts" in sql:
            plans.update(
                row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}") if "SCAN" in row["detail"]
            )
    assert plans.keys() <= {"SCAN attempts USING INDEX attempts_gpu_live"}, "an index of the live ones alone"


def test_a_queue_that_never_saw_its_devices_has_an_empty_ledger():
    """So it stands when the power failed between the schema and the first look at the devices."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        fresh.row_factory = sqlite3.Row
        migrate(fresh, data_dir("migrations"))
        assert ledger.imbalance_ms(fresh, 0.0, 10.0) == 0
        assert ledger.history(fresh, 0.0, 10.0).service == []
