"""Commands as data: their options, arguments and functions, declared once.

:func:`parse` reads a call that is spelled plainly, at once and with nothing imported. Whatever it does not
know for certain (help, completion, a mistake, rare spellings) it leaves to click, which gets the same
declarations from :mod:`leptond.cli.framework.click_bridge`: help and messages are made there. A call that
both can read means the same to both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

TYPE_CHECKING = False  # typing, and each NamedTuple, takes longer than all else here
if TYPE_CHECKING:
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])
else:
    F = None  # it stands in annotations alone


class Option:
    """An option. `names` and `no_names` switch a flag on and off; `convert` raises ValueError."""

    __slots__ = ("convert", "default", "dest", "is_flag", "multiple", "names", "no_names", "spelled")

    def __init__(
        self,
        *,
        dest: str,
        names: tuple[str, ...],
        no_names: tuple[str, ...],
        is_flag: bool,
        multiple: bool,
        convert: Callable[[str], Any],
        default: Any,
        spelled: tuple[tuple[str, ...], dict[str, Any]],
    ) -> None:
        self.dest = dest
        self.names = names
        self.no_names = no_names
        self.is_flag = is_flag
        self.multiple = multiple
        self.convert = convert
        self.default = default
        self.spelled = spelled


class Argument:
    """A word without a name, or (`many`) any number of them."""

    __slots__ = ("convert", "dest", "many", "required", "spelled")

    def __init__(
        self,
        *,
        dest: str,
        many: bool,
        required: bool,
        convert: Callable[[str], Any],
        spelled: tuple[tuple[str, ...], dict[str, Any]],
    ) -> None:
        self.dest = dest
        self.many = many
        self.required = required
        self.convert = convert
        self.spelled = spelled


class Command:
    """A command: `function(session, **values)`. With `interspersed` off everything from the first argument on
    belongs to that argument. `expand` may put words before those that were given."""

    __slots__ = ("arguments", "expand", "function", "help", "interspersed", "name", "options", "short_help")

    def __init__(
        self,
        *,
        name: str,
        function: Callable[..., None],
        options: tuple[Option, ...],
        arguments: tuple[Argument, ...],
        interspersed: bool,
        expand: Callable[[Mapping[str, Any]], list[str]] | None,
        help: str | None,
        short_help: str,
    ) -> None:
        self.name = name
        self.function = function
        self.options = options
        self.arguments = arguments
        self.interspersed = interspersed
        self.expand = expand
        self.help = help
        self.short_help = short_help


def option(*words: str, **given: Any) -> Callable[[F], F]:
    """An option, in the words of ``click.option``; `type` is a function of the text."""
    dest, names, no_names = "", [], []
    for word in words:
        if not word.startswith("-"):
            dest = word
            continue
        on, _, off = word.partition("/")
        names.append(on)
        no_names += [off] if off else []
    longest = max(names, key=lambda name: name.startswith("--"))
    flag = bool(given.get("is_flag") or no_names)
    multiple = bool(given.get("multiple"))
    made = Option(
        dest=dest or longest.lstrip("-").replace("-", "_"),
        names=tuple(names),
        no_names=tuple(no_names),
        is_flag=flag,
        multiple=multiple,
        convert=given.get("type") or str,
        default=given.get("default", () if multiple else False if given.get("is_flag") else None),
        spelled=(words, given),
    )
    return _note(made)


def argument(dest: str, **given: Any) -> Callable[[F], F]:
    """An argument, in the words of ``click.argument``."""
    many = given.get("nargs") == -1
    made = Argument(
        dest=dest,
        many=many,
        required=bool(given.get("required", not many)),
        convert=given.get("type") or str,
        spelled=((dest,), given),
    )
    return _note(made)


def _note(parameter: Option | Argument) -> Callable[[F], F]:
    def note(function: F) -> F:
        # decorators are applied from below
        function.__dict__.setdefault("parameters", []).insert(0, parameter)
        return function

    return note


def command(
    name: str,
    *,
    short_help: str,
    help: str | None = None,
    interspersed: bool = True,
    expand: Callable[[Mapping[str, Any]], list[str]] | None = None,
) -> Callable[[Callable[..., None]], Command]:
    """A command that is handed the Session first, and takes the options that all take."""

    def make(function: Callable[..., None]) -> Command:
        parameters = function.__dict__.get("parameters", [])
        return Command(
            name=name,
            function=function,
            options=tuple(one for one in parameters if isinstance(one, Option)),
            arguments=tuple(one for one in parameters if isinstance(one, Argument)),
            interspersed=interspersed,
            expand=expand,
            help=help,
            short_help=short_help,
        )

    return make


SHARED = tuple(
    parameter
    for decorated in (
        option("-v", "--verbose", is_flag=True, help="Show the requests."),
        option("--no-color", is_flag=True, help="No colours (as NO_COLOR)."),
        option("--host", metavar="URL", help="unix:///path or http://host:port."),
        option("--json", is_flag=True, help="Print the API's JSON object, also on errors."),
    )
    for parameter in decorated(lambda: None).__dict__["parameters"]
)
"""The options that leptonctl itself and every command takes."""


class Words:
    """A call, read: raw values by name (lists for what may come several times), and the arguments."""

    __slots__ = ("arguments", "raw", "rest")

    def __init__(
        self,
        raw: dict[str, Any],
        arguments: list[str],
        rest: list[str],
    ) -> None:
        self.raw = raw
        self.arguments = arguments
        self.rest = rest


def read(options: Sequence[Option], words: Sequence[str], *, interspersed: bool) -> Words | None:
    """The options in `words`. Not interspersed, it stops before the first word that is none. None when a word
    is not known for certain."""
    by_name: dict[str, tuple[Option, Any]] = {}
    for one in options:
        by_name |= dict.fromkeys(one.names, (one, True)) | dict.fromkeys(one.no_names, (one, False))
    raw: dict[str, Any] = {}
    arguments: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            if not interspersed:
                rest.insert(0, word)
                break
            arguments.append(word)
            continue
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name not in by_name:
            return None
        found, switched = by_name[name]
        if found.is_flag:
            if equals:
                return None
            raw[found.dest] = switched
            continue
        if not equals:
            if not rest:
                return None
            value = rest.pop(0)
        if found.multiple:
            raw.setdefault(found.dest, []).append(value)
        else:
            raw[found.dest] = value
    return Words(raw, arguments, rest)


def parse(command: Command, words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The values that a call gives the command, and those of the shared options; None when that is for click
    to say. Raises UsageError."""
    found = read((*command.options, *SHARED), words, interspersed=command.interspersed)
    if found is None:
        return None
    if command.expand is not None:
        before = command.expand({**found.raw, command.arguments[0].dest: [*found.arguments, *found.rest]})
        if before:
            found = read((*command.options, *SHARED), [*before, *words], interspersed=command.interspersed)
            if found is None:
                return None
    try:
        values = {one.dest: _value(one, found.raw) for one in command.options}
        if not _take_arguments(command.arguments, [*found.arguments, *found.rest], values):
            return None
    except ValueError:
        return None
    return values, {one.dest: _value(one, found.raw) for one in SHARED}


def _value(one: Option, raw: Mapping[str, Any]) -> Any:
    if one.dest not in raw:
        return one.default
    value = raw[one.dest]
    if one.is_flag:
        return value
    return tuple(map(one.convert, value)) if one.multiple else one.convert(value)


def _take_arguments(arguments: Sequence[Argument], words: list[str], values: dict[str, Any]) -> bool:
    """Add the words to the values and return True, if they are as many as there must be."""
    for one in arguments:
        if one.many:
            values[one.dest] = tuple(map(one.convert, words))
            if one.required and not words:
                return False
            words = []
        elif words:
            values[one.dest] = one.convert(words.pop(0))
        elif one.required:
            return False
        else:
            values[one.dest] = None
    return not words
