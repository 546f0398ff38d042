"""The form of a row in the table of a job's fields (fields.py).

Standard library alone: the command line imports it, and annotations are no texts here, because typing
compiles each of a NamedTuple's again."""

from enum import Enum
from typing import Any, Literal, NamedTuple


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


Editable = Literal["pending", "unfinished"]
"""The states in which a field may be edited."""

Group = Literal["about", "place", "time", "command"]
"""A block of ``leptonctl show`` and of the page's job view."""


class Option(NamedTuple):
    """The options of ``leptonctl submit`` (and of ``run`` and ``sweep``) for a field.

    `names` are as given to click, the last one long; `edit` and `retry` are the help of the same option of
    these commands, which lack it where that is None; `sbatch` is the long option of sbatch(1) that means the
    same. `place`: where the resubmit line has it. `choices`: the only words that it takes, the first of which
    need not be said.
    """

    names: tuple[str, ...]
    help: str
    metavar: str | None = None
    edit: str | None = None
    retry: str | None = None
    sbatch: str | None = None
    place: Literal["first", "middle", "last"] = "middle"
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The long option, without the one that switches it off."""
        return self.names[-1].partition("/")[0]

    @property
    def no_name(self) -> str:
        """The option that switches it off; empty where there is none."""
        return self.names[-1].partition("/")[2]


class Input(NamedTuple):
    """A field of the page's submit form."""

    label: str
    placeholder: str = ""
    initial: str = ""


SHARED: Any = object()
OWN: Any = object()


class Field(NamedTuple):
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

    name: str
    kind: Kind = Kind.TEXT
    asked: bool = True
    default: Any = None
    nullable: bool = False
    column: bool = False
    fallback: Any = None
    member: Any = SHARED
    editable: Editable | None = None
    launch: bool = False
    copied: bool = True
    shown: bool = False
    label: str | None = None
    group: Group = "about"
    filter: str | None = None
    longest: int = 128
    exported: bool = False
    summary: bool = False
    announced: bool = False
    option: Option | None = None
    input: Input | None = None
