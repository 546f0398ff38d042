"""Who can never start: passed on along the chain with its first cause, taken back by a retry, and counted."""

import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leptond.base.errors import WrongState
from leptond.core.jobs.dependency import satisfied
from leptond.core.jobs.model import TERMINAL, DependencyKind, State
from leptond.store.queue import arrays, jobs, never, retention
from tests.support.queue import add, db, empty_queue, end, lease

__all__ = ["db"]

KINDS = {"after": DependencyKind.OK, "after_any": DependencyKind.ANY, "after_fail": DependencyKind.FAIL}


def cause(db, job_id):
    return jobs.find(db, str(job_id)).never_cause


def fail(db, job_id):
    end(db, lease(db, job_id).attempt.id, 1)


def cancel(db, ref):
    return jobs.cancel(db, str(ref), by="ana", grace_s=None, reason=None, now=3.0)


def retry(db, ref):
    (stored, _) = jobs.retry(db, str(ref), user="ana", now=3.0, max_pending=10_000)
    return stored.id


def test_never_is_passed_on_with_its_first_cause(db):
    bad, good = add(db, name="bad"), add(db)
    first = add(db, after=[str(bad)])
    second = add(db, after=[str(first)])
    third = add(db, after_any=[str(first)])
    other = add(db, after=[str(good)])
    fail(db, bad)
    assert [cause(db, job) for job in (first, second, third, other)] == [bad, bad, bad, None]
    assert never.count(db) == 3
    assert never.sentence(db, jobs.find(db, str(first))) == f"job {bad} failed, so it can never run"
    assert never.sentence(db, jobs.find(db, str(second))) == (
        f"job {bad} failed, so job {first}, which it waits for, can never run"
    )
    late = add(db, after=[str(second)])
    assert cause(db, late) == bad, "who comes later finds it so"
    # when the one in between is cancelled, what only wanted its end can run; the others have a new cause
    cancel(db, first)
    assert [cause(db, job) for job in (second, third, late)] == [first, None, first]
    assert jobs.find(db, str(third)).deps_waiting == 0


def test_a_retry_of_the_cause_brings_them_back(db):
    bad = add(db)
    first = add(db, after=[str(bad)])
    second = add(db, after=[str(first)])
    fail(db, bad)
    again = retry(db, bad)
    assert (cause(db, first), cause(db, second), never.count(db)) == (None, None, 0)
    late = add(db, after=[str(bad)])
    assert jobs.find(db, str(late)).deps_waiting == 1, "it waits for the retry too"
    fail(db, again)
    assert [cause(db, job) for job in (first, second, late)] == [bad, bad, bad]
    end(db, lease(db, retry(db, again)).attempt.id, 0)
    assert [(job.deps_waiting, job.deps_failed, job.never_cause) for job in (jobs.find(db, str(first)),)] == [
        (0, 0, None)
    ]
    assert jobs.find(db, str(add(db, after=[str(bad)]))).deps_failed == 0, "its retry has succeeded"


def test_a_whole_array_waits_and_is_waited_for(db):
    bad = add(db)
    array = add(db, array="0-199", after=[str(bad)])
    assert db.execute("SELECT count(*) FROM folds").fetchone()[0] == 1
    behind = add(db, after_any=[f"{array}_*"])
    on_member = add(db, after_any=[f"{array}_150"])
    fail(db, bad)
    assert (cause(db, behind), cause(db, on_member), cause(db, f"{array}_150")) == (bad, bad, bad)
    assert never.count(db) == 202
    assert arrays.find(db, array).never_start == 200
    assert never.sentence(db, jobs.find(db, f"{array}_150")) == f"job {bad} failed, so it can never run"
    retry(db, bad)
    assert never.count(db) == 0


def test_a_member_that_is_run_again_counts_for_those_that_wait_for_its_array(db):
    array = add(db, array="0-2")
    waits = add(db, after=[f"{array}_*"])
    for member, code in enumerate((0, 1, 0)):
        end(db, lease(db, array + member).attempt.id, code)
    assert cause(db, waits) == array + 1
    again = retry(db, f"{array}_1")
    late = add(db, after=[f"{array}_*"])
    for job in (waits, late):
        seen = jobs.find(db, str(job))
        assert (seen.deps_waiting, seen.deps_failed, seen.never_cause) == (1, 0, None)
    end(db, lease(db, again).attempt.id, 0)
    for job in (waits, late, add(db, after=[f"{array}_*"])):
        seen = jobs.find(db, str(job))
        assert (seen.deps_waiting, seen.deps_failed) == (0, 0)


def test_a_retry_stays_while_somebody_waits_for_what_it_retries(db):
    bad, other = add(db), add(db)
    waits = add(db, after=[str(bad), str(other)])
    fail(db, bad)
    again = retry(db, bad)
    end(db, lease(db, again).attempt.id, 0)
    assert jobs.find(db, str(waits)).deps_waiting == 1
    assert retention.needed_now(db, again) == f"job {waits} depends on a job that it retries"
    assert retention.needed_now(db, bad) is not None
    cancel(db, waits)
    assert (retention.needed_now(db, again), retention.needed_now(db, bad)) == (None, None)


def test_a_long_chain_and_a_wide_fan_take_no_time(db):
    bad = add(db)
    chain = [add(db, after=[str(bad)])]
    for _ in range(999):
        chain.append(add(db, after_any=[str(chain[-1])]))
    fan = [add(db, after=[str(chain[-1])]) for _ in range(1000)]
    began = time.process_time()
    fail(db, bad)
    took_s = time.process_time() - began
    assert never.count(db) == 2000
    assert cause(db, fan[-1]) == bad
    assert took_s < 2.0, f"{took_s:.2f} s"  # 0.1 s on an idle machine


# -- against a model ------------------------------------------------------------------------------


class Model:
    """Jobs with their edges, looked at from scratch each time."""

    def __init__(self):
        self.jobs = {}

    def family(self, number):
        root = self.jobs[number].root or number
        return [one for one in self.jobs if one >= number and root in (one, self.jobs[one].root)]

    def edge(self, number, kind):
        """State of an edge to `number`, and who is waited for."""
        members = self.family(number)
        if any(self.jobs[one].state in TERMINAL and satisfied(kind, self.jobs[one].state) for one in members):
            return "met", None
        for one in members:
            if self.jobs[one].state not in TERMINAL:
                return "waiting", one
        return "failed", None

    def edges(self, job):
        for on, kind in job.after:
            targets = [one for one, other in self.jobs.items() if other.array == -on] if on < 0 else [on]
            for target in targets:
                yield self.edge(target, kind)

    def never(self, number):
        job = self.jobs[number]
        return any(
            state == "failed" or (state == "waiting" and self.never(on)) for state, on in self.edges(job)
        )


STEP = st.tuples(
    st.sampled_from(["submit", "submit", "submit", "array", "end", "end", "fail", "fail", "cancel", "retry"]),
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(sorted(KINDS)), st.booleans()), max_size=3),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=4, max_size=40))
def test_it_agrees_with_a_model(steps):
    db, model = empty_queue(), Model()
    for what, pick, waits in steps:
        known = sorted(model.jobs)
        if what in ("submit", "array"):
            spec, after = {}, []
            for number, field, whole in waits if known else ():
                on = known[number % len(known)]
                array = model.jobs[on].array
                ref = f"{array}_*" if whole and array is not None else str(on)
                after.append((-array if ref.endswith("*") else on, KINDS[field]))
                spec.setdefault(field, []).append(ref)
            first = add(db, **spec, **({"array": "0-2"} if what == "array" else {}))
            for number in range(first, first + (3 if what == "array" else 1)):
                model.jobs[number] = SimpleNamespace(
                    state=State.PENDING, after=after, root=None, array=first if what == "array" else None
                )
        elif known:
            number = known[pick % len(known)]
            job = model.jobs[number]
            if what == "retry":
                root = job.root or number
                if any(model.jobs[one].state not in TERMINAL for one in model.family(root)):
                    with pytest.raises(WrongState):
                        retry(db, number)
                    continue
                again = SimpleNamespace(state=State.PENDING, after=[], root=root, array=None)
                model.jobs[retry(db, number)] = again
            elif job.state is State.PENDING:
                if what == "cancel":
                    cancel(db, number)
                    job.state = State.CANCELLED
                elif all(state == "met" for state, _ in model.edges(job)):
                    end(db, lease(db, number).attempt.id, int(what == "fail"))
                    job.state = State.FAILED if what == "fail" else State.SUCCEEDED
        count = 0
        for number, job in model.jobs.items():
            seen = jobs.find(db, str(number))
            assert seen.state is job.state
            if job.state is not State.PENDING:
                assert seen.never_cause is None
                continue
            states = {state for state, _ in model.edges(job)}
            assert (seen.deps_failed > 0, seen.deps_waiting > 0) == ("failed" in states, "waiting" in states)
            assert (seen.never_cause is not None) == model.never(number), number
            if seen.never_cause is not None:
                count += 1
                assert model.jobs[seen.never_cause].state in TERMINAL
                assert "can never run" in never.sentence(db, seen)
        assert never.count(db) == count
    db.close()
