"""The form of a row in the table of a job's fields (fields.py).

Standard library alone: the command line imports it, which is why there is no NamedTuple either."""

from __future__ import annotations

from enum import Enum

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any, Literal

    Editable = Literal["pending", "unfinished"]
    Group = Literal["about", "place", "time", "command"]
else:
    # they stand in annotations alone: the states in which a field may be edited, and a block of
    # ``leptonctl show`` and of the page's job view
    Editable = Group = str


class Kind(Enum):
    """The form of a value: in a column, as words of a command line, and in a form of the page."""

    TEXT = "text"
    COUNT = "count"  # a whole number
    REAL = "real"
    FLAG = "flag"  # off unless said
    OFF = "off"  # a flag that is on unless said; its option says no
    SWITCH = "switch"  # on, off, or left to the machine
    LIMIT = "limit"  # seconds; a bare number on the command line is minutes
    SECONDS = "seconds"
    SIZE = "size"  # bytes
    INSTANT = "instant"  # RFC 3339 in a spec, UTC seconds in a column
    PATH = "path"
    SIGNAL = "signal"  # a signal and how long before the limit
    TEXTS = "texts"
    JOBS = "jobs"  # a list of job refs
    PAIRS = "pairs"  # names and texts
    SCALARS = "scalars"  # names and numbers or texts
    VARIABLES = "variables"  # an environment
    JSON = "json"  # a value of its own shape
    ORDER_KEY = "order key"  # the planner's, in the database alone


class Option:
    """The options of ``leptonctl submit`` (and of ``run`` and ``sweep``) for a field.

    `names` are as given to click, the last one long; `edit` and `retry` are the help of the same option of
    these commands, which lack it where that is None; `sbatch` is the long option of sbatch(1) that means the
    same. `place`: where the resubmit line has it. `choices`: the only words that it takes, the first of which
    need not be said.
    """

    __slots__ = ("choices", "edit", "help", "metavar", "names", "place", "retry", "sbatch")

    def __init__(
        self,
        names: tuple[str, ...],
        help: str,
        metavar: str | None = None,
        edit: str | None = None,
        retry: str | None = None,
        sbatch: str | None = None,
        place: Literal["first", "middle", "last"] = "middle",
        choices: tuple[str, ...] = (),
    ) -> None:
        self.names = names
        self.help = help
        self.metavar = metavar
        self.edit = edit
        self.retry = retry
        self.sbatch = sbatch
        self.place = place
        self.choices = choices

    @property
    def name(self) -> str:
        """The long option, without the one that switches it off."""
        return self.names[-1].partition("/")[0]

    @property
    def no_name(self) -> str:
        """The option that switches it off; empty where there is none."""
        return self.names[-1].partition("/")[2]


class Input:
    """A field of the page's submit form."""

    __slots__ = ("initial", "label", "placeholder")

    def __init__(
        self,
        label: str,
        placeholder: str = "",
        initial: str = "",
    ) -> None:
        self.label = label
        self.placeholder = placeholder
        self.initial = initial


SHARED: Any = object()
OWN: Any = object()


class Field:
    """A row of the table.

    `asked`: a field of JobSpec, with `default` there; `nullable`: an edit may set it to null. `column`: a
    column of ``jobs`` (and, but for order keys, a field of Job); `fallback` is stored where the spec says
    nothing. `member`: the column's value in a member of a compact array that is expanded (SHARED: that of the
    array; OWN: each its own). `launch`: what is prepared for a start depends on it. `copied`: a retry keeps
    it. `shown`: a field of the API's job as it is stored; `label` and `group`: its name for people, and the
    block to show it in. `filter` is the help of the option that lists only jobs with this value, `longest`
    the most characters of it. `exported`: a column of ``leptonctl export``; `summary`: in the payload of
    webhooks; `announced`: in the event of a submit; `input`: in the page's submit form.
    """

    __slots__ = (
        "announced",
        "asked",
        "column",
        "copied",
        "default",
        "editable",
        "exported",
        "fallback",
        "filter",
        "group",
        "input",
        "kind",
        "label",
        "launch",
        "longest",
        "member",
        "name",
        "nullable",
        "option",
        "shown",
        "summary",
    )

    def __init__(
        self,
        name: str,
        kind: Kind = Kind.TEXT,
        asked: bool = True,
        default: Any = None,
        nullable: bool = False,
        column: bool = False,
        fallback: Any = None,
        member: Any = SHARED,
        editable: Editable | None = None,
        launch: bool = False,
        copied: bool = True,
        shown: bool = False,
        label: str | None = None,
        group: Group = "about",
        filter: str | None = None,
        longest: int = 128,
        exported: bool = False,
        summary: bool = False,
        announced: bool = False,
        option: Option | None = None,
        input: Input | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.asked = asked
        self.default = default
        self.nullable = nullable
        self.column = column
        self.fallback = fallback
        self.member = member
        self.editable = editable
        self.launch = launch
        self.copied = copied
        self.shown = shown
        self.label = label
        self.group = group
        self.filter = filter
        self.longest = longest
        self.exported = exported
        self.summary = summary
        self.announced = announced
        self.option = option
        self.input = input
