"""What all tests of training share."""

import sys

import pytest

from tests.support.daemon import Daemon, until
from tests.support.store import put_state


@pytest.fixture(autouse=True)
def one_thread():
    """Small sums are not worth threads, several of them do not go with forks, and what a sum is depends on
    how many there are."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def warm_daemon(tmp_path_factory):
    """A daemon with a process that has imported torch, and what an optimizer imports: its jobs are forked
    from that instead of importing it each."""
    env = {
        "LEPTOND_ENGINE__WARM": "true",
        "LEPTOND_ENGINE__WARM_IMPORTS": '["torch", "torch._dynamo"]',
    }
    one = Daemon(put_state(tmp_path_factory.mktemp("warm") / "state"), "--simulate-gpus", "4", env=env)
    one.start()
    one.finished(one.submit(sys.executable, "-c", ""))
    until(lambda: "warm_process.ready" in one.log.read_text(), "a warm process")
    yield one
    one.close()
