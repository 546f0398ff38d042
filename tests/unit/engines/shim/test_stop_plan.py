"""Who is told, held or left, over tables of processes."""

from hypothesis import given
from hypothesis import strategies as st

from leptond.engines.shim.stop_plan import Process, plan, released, warned

TERM, QUIT, USR1 = 15, 3, 10
HEARS = 1 << (TERM - 1)
SHIM = 1


def process(pid: int, parent: int = SHIM, **more) -> Process:
    return Process(pid, parent, **more)


def table(*processes: Process) -> dict[int, Process]:
    return {one.pid: one for one in processes}


def decided(*processes: Process, **more):
    known = table(*processes)
    return plan(known, [one.pid for one in processes if one.parent not in known], TERM, **more)


def shell(pid: int, parent: int = SHIM, **more) -> Process:
    return process(pid, parent, name="sh", command=b"sh\0x.sh", waits=True, **more)


def program(pid: int, parent: int = SHIM, **more) -> Process:
    return process(pid, parent, name="python", command=b"python\0%d" % pid, catches=HEARS, **more)


def test_a_program_alone_is_told():
    found = decided(program(10))
    assert (found.hold, found.tell) == ([], [10])


def test_what_a_program_has_started_is_its_own_affair():
    found = decided(program(10, threads=8), program(11, 10), process(12, 10), program(13, 12))
    assert (found.hold, found.tell, found.withhold) == ([], [10], [])


def test_a_wrapper_below_a_program_that_passes_the_signal_on_is_held_and_what_is_behind_it_told():
    uv = program(10, threads=4)
    reader = {"reads": [7]}
    for wrapper in (
        shell(11, 10),
        shell(11, 10, catches=HEARS),
        process(11, 10, name="sh", **reader),
        process(11, 10, name="relay", **reader),
    ):
        found = decided(uv, wrapper, program(12, 11, writes=[7]))
        assert (found.hold, sorted(found.tell)) == ([11], [10, 12])


def test_what_stands_above_an_impatient_launcher_of_ranks_is_not_told_either():
    found = decided(program(10, threads=4), program(11, 10, ranks=True), program(12, 11), program(13, 11))
    assert (found.tell, found.withhold, found.hold) == ([12, 13], [10, 11], [])


def test_shells_are_held_outermost_first_and_the_program_is_told():
    found = decided(shell(10), shell(11, 10), program(12, 11))
    assert (found.hold, found.tell) == ([10, 11], [12])


def test_a_shell_without_a_program_is_held_before_its_children_are_told():
    found = decided(shell(10), process(11, 10, name="sleep"))
    assert (found.hold, found.tell) == ([10], [11])


def test_a_launcher_that_only_waits_is_held_whether_it_has_a_handler_or_not():
    for more in ({}, {"catches": HEARS}):
        found = decided(process(10, command=b"launch", waits=True, **more), program(11, 10))
        assert (found.hold, found.tell) == ([10], [11])


def test_a_launcher_with_other_threads_or_ranks_or_a_terminal_is_left_running():
    for more in ({"threads": 4}, {"ranks": True, "waits": False}, {"terminal": True, "waits": False}):
        found = decided(process(10, **{"catches": HEARS, "waits": True, **more}), program(11, 10))
        assert (found.hold, found.tell, found.withhold) == ([], [11], [10])


def test_a_program_that_waits_for_its_own_workers_is_told_alone():
    main = process(10, command=b"python\0train.py", catches=HEARS, waits=True)
    fork = process(11, 10, command=b"python\0train.py", catches=HEARS)
    spawned = process(
        12, 10, command=b"python\0-c\0from multiprocessing.spawn import spawn_main", catches=HEARS
    )
    assert decided(main, fork, spawned).tell == [10]


def test_a_trap_waits_for_the_foreground_but_not_for_the_background():
    trap = shell(10, catches=HEARS)
    background = process(11, 10, name="sleep", ignores=1 << (QUIT - 1))
    found = decided(trap, process(11, 10, name="sleep"))
    assert (found.hold, found.tell) == ([10], [11])
    found = decided(trap, background)
    assert (found.hold, found.tell) == ([], [10])
    found = decided(trap, program(12, 10, ignores=1 << (QUIT - 1)), background)
    assert (found.hold, found.tell) == ([10], [12])


def test_what_only_reads_or_feeds_a_program_is_left_alone():
    found = decided(
        shell(10),
        program(11, 10, writes=[7]),
        process(12, 10, name="tee", stdin=7, reads=[7], writes=[8]),
        process(13, 10, name="cat", stdin=8, reads=[8]),
    )
    assert (found.tell, found.leave) == ([11], {12, 13})
    found = decided(shell(10), process(11, 10, name="zcat", writes=[7]), program(12, 10, stdin=7, reads=[7]))
    assert (found.tell, found.leave) == ([12], {11})
    found = decided(shell(10), program(11, 10, writes=[7]), program(12, 10, stdin=7, reads=[7]))
    assert (found.tell, found.leave) == ([11], {12})


def test_a_held_shell_has_its_substitution_read_for_it():
    found = decided(shell(10, reads=[7]), program(11, 10, writes=[7]))
    assert (found.hold, found.drain, found.tell) == ([10], {10: {7}}, [11])
    found = decided(process(10, name="conda", reads=[7]), program(11, 10, writes=[7]))
    assert (found.hold, found.withhold, found.tell) == ([], [10], [11])


def test_a_shell_in_a_terminal_cannot_be_held_but_starts_nothing_more():
    found = decided(process(10, name="script", blocks=HEARS, terminal=True), shell(11, 10), program(12, 11))
    assert (found.hold, found.tell, sorted(found.withhold), found.bar) == ([], [12], [10, 11], [11])


def test_who_ignores_the_signal_goes_on():
    deaf = {"ignores": HEARS}
    found = decided(shell(10, **deaf), program(11, 10))
    assert (found.hold, found.tell) == ([], [11])


def test_a_detained_process_is_free_when_nothing_that_it_waits_for_lives():
    known = table(shell(10, writes=[7]), shell(11, 10), process(12, 10, name="tee", stdin=7, reads=[7]))
    assert released(known, {10, 11}, {11, 12}) == [11]
    assert released(table(known[10], known[12]), {10}, {12}) == [10]  # tee reads from the shell itself
    assert released(table(shell(10), known[12]), {10}, {12}) == []


def test_a_warning_goes_to_those_that_hear_it_alone():
    usr1 = 1 << (USR1 - 1)
    known = table(shell(10), process(11, 10), process(12, 10, catches=usr1))
    assert warned(known, [10], USR1) == [12]
    assert warned(table(shell(10), process(11, 10)), [10], USR1) == []
    trap = table(shell(10, catches=usr1), process(11, 10))
    assert warned(trap, [10], USR1) == [10]
    assert warned(trap, [10], USR1, only=10) == [10]
    assert warned(known, [10], USR1, only=10) == []


# -- over all trees --------------------------------------------------------------------------------

PIPES = st.sets(st.integers(1, 4), max_size=2)


@st.composite
def trees(draw) -> dict[int, Process]:
    known: dict[int, Process] = {}
    for pid in range(10, 10 + draw(st.integers(1, 12))):
        reads = draw(PIPES)
        mask = draw(st.sampled_from([0, 0, HEARS]))
        known[pid] = Process(
            pid,
            draw(st.sampled_from([SHIM, *known])),
            name=draw(st.sampled_from(["sh", "python", "tee"])),
            command=draw(st.sampled_from([b"a", b"b", b"c"])),
            catches=mask,
            ignores=0 if mask else draw(st.sampled_from([0, 0, 0, HEARS, 1 << (QUIT - 1)])),
            threads=draw(st.sampled_from([1, 1, 5])),
            waits=draw(st.booleans()),
            terminal=draw(st.integers(0, 9)) == 0,
            ranks=draw(st.integers(0, 9)) == 0,
            reads=reads,
            writes=draw(PIPES),
            stdin=draw(st.sampled_from([0, *reads])),
        )
    return known


def above(known: dict[int, Process], pid: int) -> list[Process]:
    found = []
    while (parent := known.get(known[pid].parent)) is not None:
        found.append(parent)
        pid = parent.pid
    return found


def roots(known: dict[int, Process]) -> list[int]:
    return [pid for pid, one in known.items() if one.parent == SHIM]


@given(trees())
def test_everybody_has_one_part(known):
    found = plan(known, roots(known), TERM)
    parts = [*found.tell, *found.hold, *found.withhold, *found.leave]
    assert len(parts) == len(set(parts))
    assert set(found.bar) <= set(found.withhold)
    assert set(found.drain) <= set(found.hold)
    order = found.hold
    for pid in order:
        assert all(order.index(one.pid) < order.index(pid) for one in above(known, pid) if one.pid in order)


@given(trees())
def test_nobody_above_a_told_program_can_die_of_the_stop_or_go_on_unseen(known):
    found = plan(known, roots(known), TERM)
    for pid in found.tell:
        if not known[pid].hears(TERM):
            continue
        for one in above(known, pid):
            if one.ignores_signal(TERM):
                continue
            # told itself only where it hears it, and leaves the rest to what stands between
            assert one.hears(TERM) or one.pid in {*found.hold, *found.withhold, *found.leave}


@given(trees())
def test_a_tree_in_which_anybody_hears_it_has_somebody_told(known):
    found = plan(known, roots(known), TERM)
    if any(one.hears(TERM) for one in known.values()):
        assert any(known[pid].hears(TERM) for pid in found.tell)


@given(trees())
def test_holding_a_launcher_changes_nothing_for_the_others(known):
    first = plan(known, roots(known), TERM)
    again = plan(known, roots(known), TERM, held=first.hold)
    assert again.hold == []
    assert again.tell == first.tell
    assert again.withhold == first.withhold


@given(trees(), st.data())
def test_the_told_are_not_told_again(known, data):
    first = plan(known, roots(known), TERM)
    told = data.draw(st.sets(st.sampled_from(sorted(known)))) | set(first.tell)
    again = plan(known, roots(known), TERM, told=told, held=first.hold)
    assert not set(again.tell) & told


@given(trees())
def test_a_warning_ends_nobody(known):
    assert all(known[pid].hears(TERM) for pid in warned(known, roots(known), TERM))


@given(trees())
def test_the_detained_are_free_in_the_end(known):
    found = plan(known, roots(known), TERM)
    detained = {*found.hold, *found.withhold}
    ended = set(found.tell) | set(found.leave)
    while detained:
        left = {pid: one for pid, one in known.items() if pid not in ended}
        free = released(left, detained, {*found.tell, *found.leave, *detained})
        assert free
        ended.update(free)
        detained -= set(free)
