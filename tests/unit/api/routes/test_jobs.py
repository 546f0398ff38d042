"""Jobs over HTTP: waiting for an end, and a field on all its ways."""

import asyncio

from leptond.api.routes import jobs as api_jobs


async def test_one_who_waits_does_not_make_the_queue_be_planned_at_every_commit(world, monkeypatch):
    views = []
    whole = api_jobs.one_job

    async def counted(context, ref, rights):
        views.append(ref)
        return await whole(context, ref, rights)

    monkeypatch.setattr(api_jobs, "one_job", counted)
    job = await world.submit()
    attempt = await world.start(job)
    waiting = asyncio.create_task(world.get(f"/v1/jobs/{job}?wait_s=30"))
    for _ in range(20):
        await world.submit(hold=True)
    assert (views, waiting.done()) == ([], False)
    await world.finish(attempt)
    assert (await waiting).json["state"] == "succeeded"
    assert views == [str(job)]


async def test_waiting_for_a_job_that_is_not_there_is_refused_at_once(world):
    assert (await world.get("/v1/jobs/47?wait_s=30")).status == 404


# -- a field that is stored, edited, searched and copied: contact --------------------------------------

WHOM = "Ana <ana@example.org>, #night-runs"


async def test_a_contact_is_shown_searched_and_edited_while_the_job_waits(world):
    job = await world.submit(contact=WHOM)
    other = await world.submit(contact="bo")
    await world.submit()
    shown = (await world.get(f"/v1/jobs/{job}")).json
    assert (shown["contact"], "contact" in shown["spec"]) == (WHOM, False)
    assert f"--contact '{WHOM}'" in shown["resubmit"]
    found = (await world.get("/v1/jobs?contact=bo")).json["items"]
    assert [one["id"] for one in found] == [other]
    assert (await world.get("/v1/jobs?contact=bo&user=nobody")).json["items"] == []
    edited = await world.request("PATCH", f"/v1/jobs/{other}", {"contact": "cy"})
    assert (edited.json["contact"], "contact" in edited.json["spec"]) == ("cy", False)
    gone = await world.request("PATCH", f"/v1/jobs/{other}", {"contact": None})
    assert (gone.json["contact"], "contact" in gone.json["spec"]) == (None, False)
    await world.start(job)
    refused = await world.request("PATCH", f"/v1/jobs/{job}", {"contact": "late"})
    assert refused.status == 409
    assert "contact can be changed only while the job is pending" in refused.json["detail"]


async def test_a_contact_is_one_line_of_text_within_its_length(world):
    for bad in ("", "a\nb", "a\x00", "\x1b[31m", "\x9b", "\u202ex", "x" * 257, 3):
        answer = await world.post("/v1/jobs", {"argv": ["true"], "contact": bad})
        assert answer.status == 422, (bad, answer.data)
        assert answer.json["errors"][0]["pointer"] == "/contact"
    for good in ("x" * 256, "Zoë ✉", " "):
        assert (await world.get(f"/v1/jobs/{await world.submit(contact=good)}")).json["contact"] == good
    assert (await world.get(f"/v1/jobs?contact={'x' * 257}")).status == 422


async def test_a_retry_keeps_the_contact_that_was_edited(world):
    job = await world.submit(contact="ana")
    await world.request("PATCH", f"/v1/jobs/{job}", {"contact": "bo"})
    await world.finish(await world.start(job), exit_code=1)
    again = (await world.post(f"/v1/jobs/{job}/retry")).json["id"]
    assert (await world.get(f"/v1/jobs/{again}")).json["contact"] == "bo"
    await world.finish(await world.start(again), exit_code=1)
    third = (await world.post(f"/v1/jobs/{again}/retry", {"contact": None})).json["id"]
    assert (await world.get(f"/v1/jobs/{third}")).json["contact"] is None


async def test_the_members_of_a_compact_array_have_its_contact(world):
    array = await world.submit(array="0-199", contact="ana", hold=True)
    await world.request("PATCH", f"/v1/arrays/{array}", {"contact": "bo"})
    assert (await world.get(f"/v1/jobs/{array}_150")).json["contact"] == "bo"
    found = (await world.get("/v1/jobs?contact=bo&limit=500")).json["items"]
    assert len(found) == 200
    assert (await world.get("/v1/jobs?contact=ana")).json["items"] == []
    # a change of one alone gives it a row of its own, with what the others have
    await world.request("PATCH", f"/v1/jobs/{array}_150", {"priority": 3})
    assert (await world.get(f"/v1/jobs/{array}_150")).json["contact"] == "bo"
    assert (await world.request("PATCH", f"/v1/jobs/{array}_151", {"contact": None})).json["contact"] is None


async def test_the_line_that_submits_again_comes_with_a_job_alone(world):
    job = await world.submit(name="one", env={"MY_TOKEN": "secret", "A": "b"}, cwd="/tmp")
    line = (await world.get(f"/v1/jobs/{job}")).json["resubmit"]
    assert line.startswith("leptonctl submit --name one ")
    assert "--export NONE --env MY_TOKEN --env A=b -- true" in line
    assert "secret" not in line
    assert "resubmit" not in (await world.get("/v1/jobs")).json["items"][0]
