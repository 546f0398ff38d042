"""The shim's judgement of its own end: the same as the core's."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from leptond.core.jobs.model import ExitRecord
from leptond.core.scheduling import standby
from leptond.engines.shim.succession import ended_well

RECORDS = st.fixed_dictionaries(
    {"attempt_id": st.just("a"), "boot_id": st.just("b")},
    optional={
        "exit_code": st.sampled_from([None, 0, 1]),
        "signal": st.sampled_from([None, 9]),
        "exec_error": st.sampled_from([None, "no"]),
        "stop_reason": st.sampled_from([None, "cancel", "preempt"]),
        "killed": st.booleans(),
        "unkillable": st.integers(0, 2),
        "leftovers": st.integers(0, 2),
        "oom_kills": st.integers(0, 2),
    },
)


@given(RECORDS)
def test_a_shim_hands_on_exactly_where_the_core_would(record):
    assert ended_well(record) == standby.ended_well(convert(record, ExitRecord))
