"""A member of an array has one name everywhere, and an array is one line that opens."""

from tests.support.daemon import until


def test_members_go_by_their_names_and_an_array_is_one_line(daemon):
    everything = len(daemon.get("/v1/gpus").json["items"])
    array = daemon.submit("sleep", "300", array="0-499%1", gpus=everything, name="many", time_limit_s=600)
    daemon.reached(array, "running")
    last = daemon.submit("true", gpus=1, name="behind")
    # the reason, why, events, and the bill
    reason = until(lambda: daemon.job(last)["reason_detail"], "a reason")
    assert f"held by job {array}_0)" in reason
    assert daemon.get(f"/v1/jobs/{last}/why").json["waits_for"][0] == f"{array}_0"
    events = daemon.get(f"/v1/events?job={array}").json["items"]
    assert {event["ref"] for event in events} == {f"{array}_0"}
    (line,) = daemon.get("/v1/usage?group_by=job").json["groups"]
    assert (line["key"], line["ref"]) == (f"{array} many", f"{array}_0")
    # one line for the array, with the counts of its members; a member opens it
    items = daemon.get("/v1/jobs?order=queue&whole=true").json["items"]
    assert [(job["ref"], job.get("members")) for job in items] == [
        (f"{array}_0", {"running": 1, "pending": 499}),
        (str(last), None),
    ]
    assert len(daemon.get(f"/v1/jobs?order=queue&whole=true&array={array}&limit=1000").json["items"]) == 500
    pending = daemon.get("/v1/jobs?order=queue&whole=true&state=pending").json["items"]
    assert [job["ref"] for job in pending] == [f"{array}_1", str(last)]
    page = daemon.get("/v1/jobs?order=queue&whole=true&limit=1").json
    rest = daemon.get(f"/v1/jobs?order=queue&whole=true&cursor={page['next_cursor']}").json
    assert [job["ref"] for job in (*page["items"], *rest["items"])] == [f"{array}_0", str(last)]
    # all that still waits has no row of its own
    compact = daemon.submit("true", array="0-199", hold=True)
    items = daemon.get("/v1/jobs?order=queue&whole=true&state=pending").json["items"]
    assert [job["ref"] for job in items] == [f"{array}_1", str(last), f"{compact}_0"]
    daemon.post(f"/v1/jobs/{compact}_0/cancel")
    items = daemon.get("/v1/jobs?order=queue&whole=true").json["items"]
    assert [job["ref"] for job in items] == [f"{array}_0", str(last), f"{compact}_1"]
    assert items[-1]["members"] == {"pending": 199}
    assert daemon.post("/v1/jobs:cancel", {"all": True, "grace_s": 0}).status == 202
    daemon.finished(array)
