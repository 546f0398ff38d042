"""Webhooks against a real HTTP server and a real database: order, signatures, retries, resumption."""

import asyncio

import pytest
from aiohttp import web

from leptond.base.clock import SystemClock
from leptond.base.errors import StartRefused
from leptond.config import Hook
from leptond.core.webhooks import MAX_TRIES, signature
from leptond.services import webhooks as module
from leptond.services.webhooks import Webhooks
from leptond.store.upkeep import webhooks
from tests.support.queue import store, submit

__all__ = ["store"]

SECRET = "a secret of many characters"


class Receiver:
    """A server that answers with `statuses`, then 204. `got` has the requests' headers and bodies."""

    def __init__(self):
        self.statuses = []
        self.got = asyncio.Queue()
        self.headers = {}

    async def handle(self, request):
        await self.got.put((request.headers, await request.read()))
        status = self.statuses.pop(0) if self.statuses else 204
        return web.Response(status=status, headers=self.headers)

    async def next(self):
        async with asyncio.timeout(30):
            return await self.got.get()


@pytest.fixture
async def receiver():
    one = Receiver()
    app = web.Application()
    app.router.add_post("/hook", one.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield one
    await runner.cleanup()


@pytest.fixture
async def served(store, receiver, monkeypatch):
    """Starts hooks, and stops them; tries follow each other at once."""
    monkeypatch.setattr(module, "retry_delay_s", lambda tries, roll: 0.0 if tries < MAX_TRIES else None)
    tasks = []

    async def start(*hooks):
        for hook in hooks:  # as a daemon that has run before: what is submitted next is new
            await store.write(webhooks.position, hook.name)
        task = asyncio.create_task(Webhooks(hooks, store, SystemClock()).run())
        tasks.append(task)
        return task

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def hook(receiver, **more):
    return Hook(**{"name": "box", "url": receiver.url, "events": ["job.submitted"], **more})


async def delivered(store, count):
    """The newest deliveries, as soon as there are `count`."""
    changed = asyncio.Event()
    store.on_commit(changed.set)
    async with asyncio.timeout(30):
        while len(found := await store.read(webhooks.deliveries, "box", 100)) < count:
            await changed.wait()
            changed.clear()
    return found


async def test_events_come_in_order_and_signed(store, receiver, served, tmp_path):
    (tmp_path / "secret").write_text(SECRET + "\n")
    await served(hook(receiver, secret_file=str(tmp_path / "secret")))
    ids = [await submit(store) for _ in range(3)]
    for job in ids:
        headers, body = await receiver.next()
        assert f'"job_id":{job}'.encode() in body
        assert headers["X-Leptond-Event"] == "job.submitted"
        assert headers["X-Leptond-Signature"] == signature(SECRET, headers["X-Leptond-Timestamp"], body)
    found = await delivered(store, 3)
    assert [(one.result, one.status, one.tries) for one in found] == [("delivered", 204, 1)] * 3


async def test_other_events_are_passed_over(store, receiver, served):
    await served(hook(receiver, events=["job.ended"]))
    await submit(store)
    last = await store.read(lambda db: db.execute("SELECT max(id) FROM events").fetchone()[0])
    async with asyncio.timeout(30):
        while await store.read(webhooks.position_of, "box", 0) < last:
            await asyncio.sleep(0.01)
    assert receiver.got.empty()


async def test_a_busy_server_gets_it_again_with_the_same_id(store, receiver, served):
    receiver.statuses = [503, 429]
    await served(hook(receiver))
    await submit(store)
    ids = {(await receiver.next())[0]["X-Leptond-Delivery"] for _ in range(3)}
    assert len(ids) == 1
    (one,) = await delivered(store, 1)
    assert (one.result, one.tries) == ("delivered", 3)


async def test_a_refusal_is_not_repeated(store, receiver, served, capsys):
    receiver.statuses = [410]
    await served(hook(receiver))
    await submit(store)
    (one,) = await delivered(store, 1)
    assert (one.result, one.status, one.tries) == ("refused", 410, 1)
    assert "webhooks.delivery_failed" in capsys.readouterr().out


async def test_in_the_end_an_event_is_given_up_and_the_next_one_sent(store, receiver, served):
    receiver.statuses = [500] * MAX_TRIES
    await served(hook(receiver))
    await submit(store)
    await submit(store)
    newest, oldest = await delivered(store, 2)
    assert (oldest.result, oldest.tries) == ("failed", MAX_TRIES)
    assert newest.result == "delivered"


async def test_a_signed_body_does_not_follow_a_redirect(store, receiver, served):
    receiver.statuses, receiver.headers = [307], {"Location": receiver.url}
    await served(hook(receiver))
    await submit(store)
    (one,) = await delivered(store, 1)
    assert (one.result, one.status) == ("refused", 307)
    assert receiver.got.qsize() == 1


async def test_a_slow_hook_does_not_hold_up_the_others(store, receiver, served):
    blocked = web.Application()
    release = asyncio.Event()

    async def wait(request):
        await release.wait()
        return web.Response()

    blocked.router.add_post("/hook", wait)
    runner = web.AppRunner(blocked, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    slow = Hook(name="slow", url=f"http://127.0.0.1:{runner.addresses[0][1]}/hook", events=["job.submitted"])
    await served(slow, hook(receiver))
    await submit(store)
    await delivered(store, 1)
    assert await store.read(webhooks.deliveries, "slow", 1) == []
    release.set()
    await runner.cleanup()


async def test_a_later_daemon_goes_on_behind_the_last_event(store, receiver, served):
    task = await served(hook(receiver))
    await submit(store)
    await delivered(store, 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    second = await submit(store)
    later = asyncio.create_task(Webhooks([hook(receiver)], store, SystemClock()).run())
    await receiver.next()
    _, body = await receiver.next()
    assert f'"job_id":{second}'.encode() in body
    later.cancel()
    await asyncio.gather(later, return_exceptions=True)


async def test_without_hooks_there_is_nothing_to_run(store):
    await Webhooks([], store, SystemClock()).run()


async def test_settings_that_cannot_work_refuse_the_start(store, tmp_path):
    def refused(*hooks):
        with pytest.raises(StartRefused) as found:
            Webhooks(hooks, store, SystemClock())
        assert found.value.exit_code == 78
        return str(found.value)

    one = Hook(name="a", url="http://localhost/")
    assert "same name" in refused(one, one)
    missing = Hook(name="a", url="http://localhost/", secret_file=str(tmp_path / "none"))
    assert "cannot be read" in refused(missing)
    (tmp_path / "short").write_text("short")
    assert "under 16" in refused(Hook(name="a", url="http://x/", secret_file=str(tmp_path / "short")))
