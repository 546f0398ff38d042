"""The parts of a node fit together, each given to the others' constructors."""

import ast
from pathlib import Path

import pytest

import leptond
from tests.support.node import node_world

PACKAGE = Path(leptond.__file__).parent


async def test_nothing_starts_before_the_node_schedules(tmp_path):
    async with node_world(tmp_path, begin=False) as world:
        job = await world.submit()
        await world.node.settle()
        await world.node.reconcile()
        for _ in range(20):
            await world.tick()
        assert (await world.job(job)).state == "pending"
        assert world.passes() == 0
        world.loops = world.node.schedule()
        await world.runs(job)
        assert world.passes() > 0


async def test_at_the_end_what_is_prepared_is_discarded_and_what_runs_goes_on(tmp_path):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        for task in world.loops:
            task.cancel()
        await world.node.stop_scheduling()
        await world.node.close()
        assert len(world.engine.discarded) == 1
        assert world.engine.stops == []
        assert (await world.job(first)).state == "running"
        assert (await world.job(second)).state == "pending"


async def test_a_change_outside_of_the_database_wakes_the_scheduler(tmp_path):
    async with node_world(tmp_path) as world:
        await world.until(world.passes, "the first pass")
        passes = world.passes()
        world.node.wakeup.changed()
        await world.until(lambda: world.passes() > passes, "a pass")


@pytest.mark.parametrize("room", ["scheduling", "recovery", "daemon"])
def test_nothing_is_set_on_a_part_from_outside(room):
    found = []
    for file in sorted((PACKAGE / room).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets += [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []
            for target in targets:
                if not isinstance(target, ast.Attribute):
                    continue
                owner = ast.unparse(target.value)
                if owner not in {"self", "phase"}:
                    found.append(f"{file.name}:{node.lineno} {ast.unparse(target)}")
    assert found == []
