"""An array in a few lines."""

from leptond import schema
from leptond.cli.text.array_summary import summary
from leptond.core.jobs.model import JobSpec, Reason, State
from tests.unit.cli.stub import ended, make_job, plain


def lines(member, *, first_failed=None, **counts):
    array = schema.Array(
        id=50,
        name="train.py",
        user="ana",
        counts={State(name): count for name, count in counts.items()},
        held=0,
        never_start=2,
        first_failed=first_failed,
    )
    found = summary(plain(array), plain(member))
    assert len({name for name, _ in found}) == len(found), "each line has a name of its own"
    return dict(found)


def test_an_array_that_goes_on_counts_its_members_and_says_why_they_wait():
    member = make_job(id=50, reason=Reason.RESOURCES)
    shown = lines(member, first_failed="50_3", pending=1200, running=2, failed=1)
    assert shown["array"] == "50 (1,203 members, 50_* together)"
    assert shown["state"] == "1 of 1,203 have ended"
    assert (shown["pending"], shown["running"], shown["failed"]) == (1200, 2, 1)
    assert "succeeded" not in shown
    assert shown["held"] is None
    assert shown["can never start"] == 2
    assert shown["first that failed"] == "50_3: leptonctl show 50_3"
    assert shown["reason"] == "Resources: needs 4 GPUs, 1 free"
    assert shown["members"].startswith("leptonctl queue --array 50 ")


def test_an_array_that_has_ended_is_found_in_the_history():
    shown = lines(ended(State.SUCCEEDED, id=50), succeeded=3, cancelled=1)
    assert shown["state"] == "has ended"
    assert shown["reason"] is None
    assert shown["first that failed"] is None
    assert shown["members"].startswith("leptonctl history --array 50 ")


def test_its_command_can_be_copied():
    words = make_job(spec=JobSpec(argv=["echo", "two words"]))
    assert lines(words, pending=1)["command"] == "echo 'two words'"
    line = make_job(spec=JobSpec(argv=["echo two words | wc"], shell=True))
    assert lines(line, pending=1)["command"] == "echo two words | wc"
