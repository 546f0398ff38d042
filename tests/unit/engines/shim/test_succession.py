"""The shim's judgement of its own end: the same as the core's."""

import itertools

from msgspec import convert

from leptond.core.jobs.model import ExitRecord
from leptond.core.scheduling import standby
from leptond.engines.shim.succession import ended_well

ABSENT = object()
FIELDS = {
    "exit_code": [ABSENT, None, 0, 1],
    "signal": [ABSENT, None, 9],
    "exec_error": [ABSENT, None, "no"],
    "stop_reason": [ABSENT, None, "cancel"],
    "killed": [ABSENT, False, True],
    "unkillable": [ABSENT, 0, 1],
    "leftovers": [ABSENT, 0, 1],
    "oom_kills": [ABSENT, 0, 1],
}


def test_a_shim_hands_on_exactly_where_the_core_would():
    well = 0
    for values in itertools.product(*FIELDS.values()):
        found = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not ABSENT}
        record = {"attempt_id": "a", "boot_id": "b", **found}
        assert ended_well(record) == standby.ended_well(convert(record, ExitRecord)), record
        well += ended_well(record)
    assert 0 < well < 8748 / 4, "only an exit code of 0, and not every one"
