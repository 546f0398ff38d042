"""Messages about events, for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.messages import Message, message_for

JOB = {
    "id": 47, "name": "llama", "state": "failed", "user": "ana", "gpus": 2,
    "explanation": "exit code 3", "started_at": 100.0, "ended_at": 3700.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("state", "title", "kind"),
    [
        ("succeeded", "job 47 (llama) succeeded", "success"),
        ("failed", "job 47 (llama) failed", "failure"),
        ("timed_out", "job 47 (llama) timed out", "failure"),
        ("cancelled", "job 47 (llama) cancelled", "info"),
    ],
)
def test_an_end_has_its_state_and_a_kind(state, title, kind):
    found = message_for("job.ended", {}, JOB | {"state": state})
    assert (found.title, found.kind) == (title, kind)


def test_an_end_says_why_how_long_and_whose():
    assert message_for("job.ended", {}, JOB).body == "exit code 3\nran for 1h\nana, 2 GPUs"
    never = JOB | {"started_at": None, "explanation": None, "gpus": 0}
    assert message_for("job.ended", {}, never).body == "ana, no GPU"


def test_a_retry_is_a_warning_with_its_reason():
    found = message_for("job.requeued", {"explanation": "GPU fell off", "retry": "in 30 s"}, JOB)
    assert found == Message(
        title="job 47 (llama) is tried again", body="GPU fell off\nin 30 s\nana, 2 GPUs", kind="warning"
    )


def test_other_events_are_named_by_their_type():
    assert message_for("job.state", {"to": "running"}, JOB).title == "job 47 (llama): state: running"
    assert message_for("job.held", {}, JOB).title == "job 47 (llama): held"
    assert message_for("queue.changed", {"name": "q"}, None).body == '{"name":"q"}'


@pytest.mark.parametrize(
    ("data", "title", "kind"),
    [
        ({"index": 3, "drained": True, "reason": "fan"}, "GPU 3 is drained", "warning"),
        ({"index": 3, "present": False, "drained": False}, "GPU 3 is gone", "failure"),
        ({"uuid": "GPU-a"}, "GPU GPU-a is in service", "info"),
    ],
)
def test_the_state_of_a_gpu(data, title, kind):
    found = message_for("gpu.state", data, None)
    assert (found.title, found.kind) == (title, kind)


@given(
    event=st.sampled_from(["job.ended", "job.requeued", "job.state", "gpu.state", "limits.changed"]),
    data=st.dictionaries(st.sampled_from(["to", "reason", "index", "retry"]), st.text(max_size=5)),
    job=st.sampled_from([None, JOB]),
)
def test_every_event_has_a_title(event, data, job):
    assert message_for(event, data, job).title.strip()
