"""Refusals: where the fault is, how many are named, and the exit codes of a start."""

import errno

import pytest

from leptond.base import errors
from leptond.base.errors import (
    EXIT_CONFIG,
    EXIT_IO,
    EXIT_LATER,
    NAMED,
    Fault,
    Invalid,
    OutputRemoved,
    Refused,
    TooManyGpus,
    start_refused,
)


def every(kind=Refused):
    yield kind
    for other in kind.__subclasses__():
        yield from every(other)


def test_each_refusal_has_a_slug_and_a_title_of_its_own():
    slugs = [kind.slug for kind in every()]
    assert len(set(slugs)) == len(slugs)
    assert all(400 <= kind.status < 600 for kind in every())
    assert len({kind.title for kind in every()}) == len(slugs)


def test_a_refusal_points_at_its_field_only_where_there_is_one():
    assert Refused("no").pointer is None
    assert Refused("no").faults == []
    one = Refused("gpus is negative", pointer="/gpus")
    assert one.pointer == "/gpus"
    assert one.faults == [Fault("/gpus", "gpus is negative")]
    assert str(one) == "gpus is negative"


def test_as_many_faults_as_fit_are_named_and_the_rest_are_counted():
    faults = [Fault(f"/{i}", f"{i} is wrong") for i in range(NAMED + 2)]
    assert Invalid.of(faults[:2]).detail == "0 is wrong; 1 is wrong"
    assert Invalid.of(faults).detail.endswith("4 is wrong; 2 further faults")
    assert Invalid.of(faults, more=True).detail.endswith("2 or more further faults")
    assert Invalid.of(faults).faults == faults, "a program sees all of them"
    assert Invalid.of(faults, hint="look").hint == "look"


def test_a_part_is_refused_where_it_stands_in_the_whole():
    inner = Invalid.of([Fault("/gpus", "gpus is negative"), Fault("/", "it is empty")])
    assert [fault.pointer for fault in inner.within("/jobs/3").faults] == ["/jobs/3/gpus", "/jobs/3"]
    whole = Invalid("it is too long").within("/jobs/3")
    assert whole.faults == [Fault("/jobs/3", "it is too long")]


def test_a_job_that_is_too_large_is_pointed_at():
    one = TooManyGpus(9, 8)
    assert (one.status, one.pointer) == (422, "/gpus")
    assert "9 GPUs, this machine has 8" in one.detail


@pytest.mark.parametrize(("printed", "words"), [(12, "its 12 bytes were removed"), (0, "it was removed")])
def test_output_that_is_gone_says_how_much_it_was(printed, words):
    one = OutputRemoved("3_1", 2, printed)
    assert one.status == 404
    assert "job 3_1, attempt 2" in one.detail
    assert words in one.detail


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, EXIT_LATER),
        (errno.EDQUOT, EXIT_LATER),
        (errno.EACCES, EXIT_CONFIG),
        (errno.ENOTDIR, EXIT_CONFIG),
        (errno.EROFS, EXIT_IO),
        (errno.EMFILE, EXIT_IO),
    ],
)
def test_a_start_is_tried_again_unless_a_person_has_to_decide(number, code):
    refused = start_refused("x cannot be written", OSError(number, "why"))
    assert refused.exit_code == code
    assert str(refused).startswith("x cannot be written: ")
    assert ("Make room" in str(refused)) == (code == EXIT_LATER)
    assert errors.NO_ROOM == {errno.ENOSPC, errno.EDQUOT}
