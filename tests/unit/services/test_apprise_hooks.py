"""Hooks of services that apprise knows, with a service of the test's own in apprise's registry."""

import asyncio
import threading

import pytest
from apprise import NotifyType
from apprise.decorators import notify

from leptond.base.errors import StartRefused
from leptond.config import Hook
from leptond.core.messages import Message
from leptond.services import apprise_hooks
from leptond.services.apprise_hooks import AppriseHook

# apprise imports modules that Python 3.11 deprecates
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

got = []
answers = []


def take(body, title, notify_type, *_, **__):
    got.append((title, body, notify_type))
    answer = answers.pop(0) if answers else True
    if callable(answer):
        answer = answer()
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.fixture(scope="module")
def service():
    notify(on="leptest", name="a test")(take)


@pytest.fixture
def hook(service):
    got.clear()
    answers.clear()
    return AppriseHook(Hook(name="chat", url="leptest://x"))


async def test_a_message_is_sent_with_its_kind(hook):
    assert await hook.send(Message(title="job 1 failed", body="why", kind="failure")) is None
    assert got == [("job 1 failed", "why", NotifyType.FAILURE)]


async def test_a_service_that_refuses_is_an_error(hook):
    answers.append(False)
    assert await hook.send(Message(title="t", body="b")) == "the service did not take it"


async def test_a_service_that_hangs_is_given_up(hook, monkeypatch):
    release = threading.Event()
    answers.append(lambda: release.wait(60))
    monkeypatch.setattr(apprise_hooks, "TIMEOUT_S", 0.05)
    async with asyncio.timeout(30):
        assert "no answer" in await hook.send(Message(title="t", body="b"))
    release.set()


def test_an_unknown_address_refuses_the_start_without_showing_it():
    with pytest.raises(StartRefused, match="does not know this nosuchthing address") as found:
        AppriseHook(Hook(name="chat", url="nosuchthing://s3cret"))
    assert "s3cret" not in str(found.value)
    assert found.value.exit_code == 78


def test_without_the_package_the_start_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with pytest.raises(StartRefused, match="pip install apprise"):
        AppriseHook(Hook(name="chat", url="leptest://x"))
