"""Who is told of a signal: a decision over a table of processes. Pure.

The rule: *the stop signal goes, once, to every process that has a handler for it and is not below another
such process; what merely waits on the way to one is held until that has gone, and starts nothing more; the
kill comes when the grace is over, for whatever is left.*

A process that **hears** the signal (it catches it, or keeps it blocked to fetch it) is a *program*: it is
told, and its descendants are its own affair. It is a *launcher* instead where it does nothing but wait for
others: its main thread sits in wait() or in sigsuspend(), it reads the output of a child, it serves a child's
terminal, or it has started ranks. Who hears it below a launcher is told directly, and the launcher is held
like any wrapper. So it does not matter whether a launcher passes the signal on, to how many, and how long it
would wait then.

What does not hear it would die of it, and take the grace from what is below it: so it is held (SIGSTOP) while
anything below it lives that was told, and then ended. Where it cannot be held, because it reads a pipe or has
other threads that the program may need, it is left alone for as long. What only reads the output of a sibling
(``tee``) or only feeds a program is left alone too: it ends by itself.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Set

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "mksh", "ash", "busybox"})
SIGQUIT, SIGTERM = 3, 15
SETTLED_S = 0.25
"""A child of a shell that has been there for so long is more than a step of a loop."""
WORKERS = (
    b"multiprocessing.spawn",
    b"multiprocessing.forkserver",
    b"multiprocessing.resource_tracker",
)
"""Marks in the command line of a worker that Python has started."""


class Process:
    """A process at one moment. `catches`, `ignores` and `blocks` are masks (bit N-1 for signal N); `waits`:
    its main thread waits for children or signals, and for nothing else; `fetches`: it sits in sigwait(),
    which hides the mask that it waits with; `terminal`: it serves the terminal of another; `ranks`: it has
    started rank 0 of several, and gives them a time of its own; `reads` and `writes` are the pipes that it
    has open, by inode, `stdin` the one that is its standard input, 0 where that is no pipe."""

    __slots__ = (
        "age_s",
        "blocks",
        "catches",
        "command",
        "fetches",
        "ignores",
        "name",
        "parent",
        "pid",
        "ranks",
        "reads",
        "start_ticks",
        "state",
        "stdin",
        "terminal",
        "threads",
        "waits",
        "writes",
    )

    def __init__(
        self,
        pid: int,
        parent: int,
        *,
        start_ticks: int = 0,
        name: str = "",
        command: bytes = b"",
        state: str = "S",
        catches: int = 0,
        ignores: int = 0,
        blocks: int = 0,
        threads: int = 1,
        waits: bool = False,
        fetches: bool = False,
        terminal: bool = False,
        ranks: bool = False,
        reads: Iterable[int] = (),
        writes: Iterable[int] = (),
        stdin: int = 0,
        age_s: float = SETTLED_S,
    ) -> None:
        self.pid = pid
        self.parent = parent
        self.start_ticks = start_ticks
        self.name = name
        self.command = command
        self.state = state
        self.catches = catches
        self.ignores = ignores
        self.blocks = blocks
        self.threads = threads
        self.waits = waits
        self.fetches = fetches
        self.terminal = terminal
        self.ranks = ranks
        self.reads = frozenset(reads)
        self.writes = frozenset(writes)
        self.stdin = stdin
        self.age_s = age_s

    @property
    def is_shell(self) -> bool:
        """True for a command interpreter."""
        return self.name in SHELLS

    def hears(self, number: int) -> bool:
        """True if it has a handler for the signal, or fetches it (sigwait, signalfd); of one that sits in
        sigwait() only the stop signal can be expected. A parent in vfork() blocks everything for a moment,
        in uninterruptible sleep."""
        bit = 1 << (number - 1)
        if self.catches & bit or (self.fetches and number == SIGTERM):
            return True
        return bool(self.blocks & bit and self.state != "D")

    def ignores_signal(self, number: int) -> bool:
        """True if the signal does nothing to it."""
        return bool(self.ignores >> (number - 1) & 1)

    def is_background_of(self, shell: Process) -> bool:
        """True for what a shell without job control has started with ``&``: it ignores SIGQUIT."""
        return self.ignores_signal(SIGQUIT) and not shell.ignores_signal(SIGQUIT)

    def is_worker_of(self, parent: Process) -> bool:
        """True for a fork of a program that has not become another one, and for the helpers of Python's
        multiprocessing."""
        if any(mark in self.command for mark in WORKERS):
            return True
        return bool(self.command) and self.command == parent.command and not parent.is_shell


class Plan:
    """Who is held, in this order (`hold`), who is told (`tell`), who is left running for as long as what it
    waits for (`withhold`), and who is left to end by itself (`leave`). `drain`: the pipes that held shells
    would have read, by the pid of the shell. `bar`: shells among those left running, which must not be able
    to start anything more."""

    __slots__ = ("bar", "drain", "hold", "leave", "tell", "withhold")

    def __init__(self) -> None:
        self.hold: list[int] = []
        self.tell: list[int] = []
        self.withhold: list[int] = []
        self.leave: set[int] = set()
        self.drain: dict[int, set[int]] = {}
        self.bar: list[int] = []


class Tree:
    """The processes of `table`; in `order` are those below `roots`, each before its children."""

    def __init__(self, table: Mapping[int, Process], roots: Iterable[int]) -> None:
        self.table = table
        self._children: dict[int, list[Process]] = {}
        for process in table.values():
            self._children.setdefault(process.parent, []).append(process)
        self.order = [table[pid] for pid in roots if pid in table]
        seen = {process.pid for process in self.order}
        for process in self.order:  # it grows meanwhile
            fresh = [child for child in self.children(process.pid) if child.pid not in seen]
            seen.update(child.pid for child in fresh)
            self.order += fresh

    def children(self, pid: int) -> list[Process]:
        """Return the children of a process."""
        return self._children.get(pid, [])

    def below(self, pid: int) -> Iterator[Process]:
        """Yield the descendants of a process."""
        seen, fresh = {pid}, [pid]
        while fresh:
            for child in self.children(fresh.pop()):
                if child.pid not in seen:
                    seen.add(child.pid)
                    fresh.append(child.pid)
                    yield child

    def output_read_by(self, process: Process) -> set[int]:
        """Return the pipes that a process reads and a descendant writes."""
        if not process.reads:
            return set()
        return {pipe for one in self.below(process.pid) for pipe in one.writes & process.reads}


class _Decision:
    """Works out a :class:`Plan`."""

    def __init__(self, tree: Tree, number: int, told: Collection[int], held: Collection[int]) -> None:
        self.tree = tree
        self.number = number
        self.told = told
        self.held = held
        self.programs: list[Process] = []
        self.launchers: list[Process] = []
        self.others: list[Process] = []  # neither hears it
        self.passed: set[int] = set()  # programs, and what may pass on to their children what they are told
        # the fixed point of "something in this subtree hears it", children first
        self.heard: set[int] = set()
        for process in reversed(tree.order):
            if process.pid not in told and (
                process.hears(number) or any(child.pid in self.heard for child in tree.children(process.pid))
            ):
                self.heard.add(process.pid)

    def sort(self) -> None:
        """Sort the processes that leptond itself has to tell, or to hold, from those of a program."""
        direct = {process.pid for process in self.tree.order if process.parent not in self.tree.table}
        for process in self.tree.order:
            pid, children = process.pid, self.tree.children(process.pid)
            if pid in self.passed and pid not in self.told:
                direct.update(self._wrappers(process, children))
            if pid not in direct or pid in self.told:
                continue
            if not process.hears(self.number):
                self.others.append(process)
                direct.update(child.pid for child in children)
                continue
            waited_for = self._waited_for(process, children)
            if waited_for:
                self.launchers.append(process)
                direct.update(child.pid for child in waited_for)
            else:
                self.programs.append(process)
                self.passed.add(pid)
                direct.update(self._wrappers(process, children))

    def _waited_for(self, process: Process, children: list[Process]) -> list[Process]:
        """Return the children that a launcher waits for; none for a program."""
        pid = process.pid
        evidence = process.waits or process.terminal or process.ranks or pid in self.held
        if not evidence and not process.is_shell:
            # what it passes on would be passed on by one that then kills after a time of its own
            evidence = any(
                (one.ranks or one.terminal) and bool(self._waited_for(one, self.tree.children(one.pid)))
                for one in children
            )
        if not children or not (evidence or self.tree.output_read_by(process)):
            return []
        if process.is_shell:
            # a trap is not run before the command in the foreground has ended
            return [one for one in children if one.pid in self.heard or not one.is_background_of(process)]
        return [one for one in children if one.pid in self.heard and not one.is_worker_of(process)]

    def _wrappers(self, program: Process, children: list[Process]) -> list[int]:
        """Return those children of a program that stand between it and another one."""
        wrappers = [child.pid for child in children if self._is_wrapper(child, program)]
        self.passed.update(
            child.pid
            for child in children
            if child.pid not in wrappers and child.hears(self.number) and not child.is_worker_of(program)
        )
        return wrappers

    def _is_wrapper(self, child: Process, program: Process) -> bool:
        """True for a child of a program that stands between it and another one: of a signal that is passed
        on to it, it would die, or keep it to itself."""
        if child.threads > 1 or child.is_worker_of(program) or child.pid not in self.heard:
            return False
        if child.hears(self.number):
            return bool(self._waited_for(child, self.tree.children(child.pid)))
        return child.waits or child.pid in self.held or bool(self.tree.output_read_by(child))

    def without_readers(self) -> tuple[list[Process], set[int]]:
        """Return the programs to tell, and those that only read what another program to tell writes."""
        writers: dict[int, list[Process]] = {}
        for one in self.programs:
            for pipe in one.writes:
                writers.setdefault(pipe, []).append(one)

        def feeds(one: Process, other: Process) -> bool:
            return other.stdin != 0 and other.stdin in one.writes and one is not other

        readers = {
            one.pid
            for one in self.programs
            if any(feeds(other, one) and not feeds(one, other) for other in writers.get(one.stdin, ()))
        }
        tell = [one for one in self.programs if one.pid not in readers]
        return (tell, readers) if tell else (self.programs, set())


def plan(
    table: Mapping[int, Process],
    roots: Iterable[int],
    number: int,
    *,
    told: Collection[int] = (),
    held: Collection[int] = (),
) -> Plan:
    """Return what to do at a stop by the signal `number`, for the processes of `table` below `roots`. `told`
    are left out with all that is below them; `held` are stopped by us already, as launchers."""
    decision = _Decision(Tree(table, roots), number, told, held)
    decision.sort()
    result = Plan()
    tell, readers = decision.without_readers()
    result.tell = [one.pid for one in tell]
    result.leave = readers
    for one in decision.launchers:
        _detain(result, decision, one)
    _others(result, decision, {one.stdin for one in tell if one.stdin})
    rank = {one.pid: place for place, one in enumerate(decision.tree.order)}
    result.hold.sort(key=lambda pid: rank[pid])
    return result


def warned(
    table: Mapping[int, Process], roots: Iterable[int], number: int, *, only: int | None = None
) -> list[int]:
    """Return whom a warning is sent to: the programs that hear it. Nothing is ended by it, so what does not
    hear it is not told. `only`: the batch script alone, if it hears it."""
    if only is not None:
        return [only] if only in table and table[only].hears(number) else []
    decision = _Decision(Tree(table, roots), number, (), ())
    decision.sort()
    programs = decision.without_readers()[0]
    below = {one.pid: {child.pid for child in decision.tree.below(one.pid)} for one in decision.launchers}
    # a shell with a trap, whose program does not hear it
    lone = [one for one in decision.launchers if not below[one.pid] & {each.pid for each in programs}]
    return [one.pid for one in [*programs, *lone]]


def _detain(result: Plan, decision: _Decision, one: Process) -> None:
    """Hold a launcher; where it is not safe, leave it running untold."""
    if one.pid in decision.held:
        return
    read = decision.tree.output_read_by(one)
    parent = decision.tree.table.get(one.parent)
    if parent is not None and parent.terminal:
        _detain_in_terminal(result, decision, one)
        return
    # below a program that may pass the signal on to it, it is better held than dead
    exposed = one.parent in decision.passed and not one.hears(decision.number)
    relays = bool(read) and not one.is_shell and not exposed
    if one.threads > 1 or one.terminal or one.ranks or relays:
        result.withhold.append(one.pid)
        return
    result.hold.append(one.pid)
    if read:
        result.drain[one.pid] = read


def _detain_in_terminal(result: Plan, decision: _Decision, one: Process) -> None:
    """What serves a terminal stops itself when its child is stopped, and wakes both together: so the child
    cannot be held."""
    children = decision.tree.children(one.pid)
    if not one.hears(decision.number):
        result.withhold.append(one.pid)
        if one.is_shell:
            result.bar.append(one.pid)
    elif one.is_shell and not any(child.is_background_of(one) for child in children):
        result.tell.append(one.pid)  # its trap waits for the command in the foreground
    else:
        result.withhold.append(one.pid)


def _others(result: Plan, decision: _Decision, fed: set[int]) -> None:
    """Decide about the processes that do not hear the signal. `fed`: the inputs of programs that are told."""
    tree, number = decision.tree, decision.number
    for one in decision.others:
        children = tree.children(one.pid)
        if one.ignores_signal(number):
            if not children:
                result.tell.append(one.pid)
        elif one.pid in decision.held:
            pass
        elif one.writes & fed or (_only_reads(tree, one) and not _is_steady(decision, one)):
            result.leave.add(one.pid)
        elif children or one.is_shell:
            _detain(result, decision, one)
        else:
            result.tell.append(one.pid)


def _only_reads(tree: Tree, one: Process) -> bool:
    """True if its standard input is what another living process, not below it, writes."""
    if not one.stdin:
        return False
    own = {each.pid for each in tree.below(one.pid)} | {one.pid}
    return any(one.stdin in each.writes for each in tree.table.values() if each.pid not in own)


def _is_steady(decision: _Decision, one: Process) -> bool:
    """True for a reader that leaves the reading to a child, so that it can be held."""
    return any(
        child.pid in decision.heard or (child.stdin == one.stdin and child.age_s >= SETTLED_S)
        for child in decision.tree.children(one.pid)
    )


def released(
    table: Mapping[int, Process],
    detained: Set[int],
    concerned: Set[int],
) -> list[int]:
    """Return those of `detained` below which nothing of `concerned` (told, held, or left to end) lives any
    more, and which read the output of none. What reads from a detained process itself cannot end before it,
    so it does not count."""
    tree = Tree(table, ())
    free = []
    for pid in detained:
        if pid not in table:
            continue
        reads, writes = table[pid].reads, table[pid].writes
        awaited = any(
            one.pid in concerned and not (one.stdin and one.stdin in writes) for one in tree.below(pid)
        )
        writers = concerned - detained
        if not awaited and not any(one.writes & reads for one in table.values() if one.pid in writers):
            free.append(pid)
    return free
