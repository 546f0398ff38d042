"""Who stands on deck stays there for as long as a transaction may have told him to go."""

import asyncio
import secrets

from leptond.clock import SystemClock
from leptond.core.admission import Defaults, admit
from leptond.core.model import Identity, JobSpec
from leptond.deck import Deck
from leptond.store import jobs, open_store


class Gates:
    """Prepares, and knows who stands; what was asked of it."""

    def __init__(self):
        self.standing, self.undone = set(), []

    async def prepare(self, job, attempt_id):
        self.standing.add(attempt_id)
        return Identity(boot_id="b", pid=1, start_ticks=1)

    def stands(self, attempt_id):
        return attempt_id in self.standing

    async def undo(self, attempt_id):
        self.undone.append(attempt_id)


async def test_who_went_and_ended_before_his_claim_is_not_sent_away(tmp_path):
    """Found by simulation (seed 40064): the disk took no commit, the successor had run and ended meanwhile,
    was taken for lost on deck, and his end was never booked."""
    gates = Gates()
    async with open_store(tmp_path / "leptond.db") as store, asyncio.TaskGroup() as group:
        admitted = admit(JobSpec(argv=["true"]), gpus=0, home="/", defaults=Defaults())
        await store.write(jobs.submit, [admitted], user="ada", now=1.0, max_pending=10)
        job = await store.read(jobs.find, "1")
        deck = Deck(gates, SystemClock(), group, 2)
        here = asyncio.Event()
        deck.on_ready = here.set
        deck.arrange([job], [])
        await here.wait()
        (ready,) = deck.ready().values()
        deck.hold()
        gates.standing.clear()
        assert deck.ready() == {}, "nobody else may claim him"
        await asyncio.sleep(0)
        assert gates.undone == []
        deck.taken({ready.attempt_id})
        assert deck.ready() == {}
        assert deck.jobs() == []
        assert gates.undone == [], "he is the supervisor's now"

        deck.arrange([job], [])
        here.clear()
        await here.wait()
        deck.hold()
        gates.standing.clear()
        deck.ready()
        deck.taken({secrets.token_hex(16)})
        deck.ready()
    assert len(gates.undone) == 1, "he was lost, and nobody had claimed him"
