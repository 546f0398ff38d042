"""The Python clients, against the real daemon: what a notebook would do."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

import leptond
from leptond import AsyncClient, Client
from leptond.client.errors import ApiError
from leptond.client.target import Unreachable
from leptond.core.jobs.model import State
from tests.support.daemon import Daemon

PYTHON = sys.executable
HOLDING = (
    "import os, sys, time\nprint('begin', flush=True)\n"
    "while not os.path.exists(sys.argv[1]): time.sleep(0.02)\nprint('end', flush=True)"
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory) -> Iterator[Daemon]:
    one = Daemon(tmp_path_factory.mktemp("sdk") / "state", "--simulate-gpus", "2")
    one.start()
    yield one
    one.close()


@pytest.fixture
def host(daemon) -> str:
    return f"unix://{daemon.socket}"


def test_a_job_from_submit_to_its_end(host, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Client(host) as lept:
        made = lept.submit(["sh", "-c", "pwd; echo $WHAT"], gpus=1, env={"WHAT": "hello"}, name="greet")
        done = lept.wait(made.id, timeout_s=60)
        assert (done.state, done.exit_code, done.name) == (State.SUCCEEDED, 0, "greet")
        assert "".join(lept.logs(made.id)) == f"{tmp_path}\nhello\n"
        assert made.id in [job.id for job in lept.jobs(state="succeeded")]
        again = lept.retry(made.id, time_limit_s=99.0)
        assert again.id != made.id
        assert lept.job(again.id).time_limit_s == 99.0


def test_a_text_is_for_the_shell_and_many_go_at_once(host):
    with Client(host) as lept:
        assert lept.wait(lept.submit("exit $((1 + 2))").id).exit_code == 3
        made = lept.submit_many([{"argv": ["true"]}, {"argv": ["false"]}])
        assert [lept.wait(one.id).exit_code for one in made] == [0, 1]
        with pytest.raises(ApiError, match="64 GPUs"):
            lept.submit_many([{"argv": ["true"]}, {"argv": ["true"], "gpus": 64}])


def test_following_through_a_restart_of_the_daemon(daemon, host, tmp_path):
    go = tmp_path / "go"
    with Client(host) as lept, Client(host) as other:
        made = lept.submit([PYTHON, "-c", HOLDING, str(go)], gpus=1)
        output = lept.logs(made.id, follow=True)
        assert next(output).startswith("begin")
        events = other.events(since=0, job=made.id)
        assert next(events).type == "job.submitted"
        daemon.restart()
        go.touch()
        assert "".join(output).endswith("end\n")
        assert lept.wait(made.id).state is State.SUCCEEDED
        seen = [next(events).type for _ in range(2)]
        assert seen[0] == "job.state"


def test_changes_and_reasons(host):
    with Client(host) as lept:
        made = lept.submit(["true"], hold=True)
        assert lept.why(made.id).reason == "Held"
        assert lept.edit(made.id, priority=7).priority == 7
        assert lept.release(made.id).held is False
        assert lept.wait(made.id).state is State.SUCCEEDED
        with pytest.raises(ApiError, match="cannot be held"):
            lept.hold(made.id)
        assert len(lept.gpus()) == 2
        assert lept.status().state == "ready"


def test_a_whole_array_at_once(host):
    with Client(host) as lept:
        made = lept.submit(["true"], array="0-2", hold=True)
        assert lept.release_array(made.id).changed == 3
        assert lept.wait(f"{made.id}_2").state is State.SUCCEEDED
        other = lept.submit(["true"], array="0-1", begin_at="2100-01-01T00:00:00Z")
        assert lept.hold_array(other.id).array.held == 2
        assert lept.cancel_array(other.id).array.counts == {State.CANCELLED: 2}


def test_a_wait_has_an_end(host):
    with Client(host) as lept:
        made = lept.submit(["true"], hold=True)
        with pytest.raises(TimeoutError, match="pending after 0"):
            lept.wait(made.id, timeout_s=0)
        assert lept.cancel(made.id).state is State.CANCELLED


async def test_the_same_under_asyncio(host, tmp_path):
    go = tmp_path / "go"
    async with AsyncClient(host) as lept:
        made = await lept.submit([PYTHON, "-c", HOLDING, str(go)], gpus=1)
        pieces = []
        async for text in lept.logs(made.id, follow=True):
            pieces.append(text)
            go.touch()
        assert "".join(pieces) == "begin\nend\n"
        assert (await lept.wait(made.id, 60)).exit_code == 0
        assert [text async for text in lept.logs(made.id)] == ["begin\nend\n"]
        held = await lept.submit("exit 4", hold=True)
        assert (await lept.why(held.id)).reason == "Held"
        assert (await lept.edit(held.id, name="four")).name == "four"
        await lept.release(held.id)
        array = await lept.submit("true", array="0-1", hold=True)
        assert (await lept.hold_array(array.id)).array.held == 2
        assert (await lept.release_array(array.id)).array.held == 0
        assert (await lept.cancel_array((await lept.submit("true", array="0-1", hold=True)).id)).changed == 2
        assert (await lept.wait(held.id)).exit_code == 4
        assert held.id in [job.id async for job in lept.jobs(state="failed")]
        async for event in lept.events(since=0, job=held.id):
            assert event.type == "job.submitted"
            break
        with pytest.raises(ApiError, match="there is no job"):
            await lept.job(999_999)
        with pytest.raises(TimeoutError):
            await lept.wait((await lept.submit("true", hold=True)).id, 0.01)


async def test_no_daemon_is_said_so(tmp_path):
    with pytest.raises(Unreachable), Client(f"unix://{tmp_path}/none.sock") as lept:
        lept.status()
    async with AsyncClient(f"unix://{tmp_path}/none.sock") as lept:
        with pytest.raises(Unreachable):
            await lept.status()


def test_the_package_itself_stays_light():
    assert set(leptond.__all__) == {
        "AsyncClient",
        "Client",
        "JobFailed",
        "JobFuture",
        "LeptonExecutor",
        "__version__",
    }
    with pytest.raises(AttributeError):
        leptond.nothing  # noqa: B018
