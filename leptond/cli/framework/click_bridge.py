"""The declared commands as click's: for help, completion, and messages about mistakes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from leptond import __version__
from leptond.base.usage import UsageError
from leptond.cli.framework.declare import SHARED, Argument, Command, F, Option
from leptond.cli.framework.help_groups import FEW, GROUPS, HEADINGS
from leptond.cli.framework.params import JOB, Parsed, Whole, jobs_like
from leptond.cli.framework.registry import ALIASES, MODULES, SECTIONS, load
from leptond.cli.framework.session import Session, usage_problem

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    _ParamType = click.ParamType[Any]  # generic since click 8.2
else:
    _ParamType = click.ParamType

_SETTINGS = {"help_option_names": ["-h", "--help"]}


# -- kinds of values -----------------------------------------------------------------------------------


class _ParsedType(_ParamType):
    """A value that a function makes of the text; its ValueError is a usage error."""

    def __init__(self, parsed: Parsed) -> None:
        self.name = parsed.name
        self._parse = parsed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _JobType(_ParamType):
    """A job; completes with the ids of jobs, their names and states."""

    name = "job"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        session = ctx.find_object(Session) or Session()
        return [CompletionItem(ref, help=text) for ref, text in jobs_like(session.host, incomplete)]


_JOB = _JobType()


def kind(convert: Any) -> Any:
    """click's type for one of ours."""
    if convert is JOB:
        return _JOB
    if isinstance(convert, Parsed):
        return _ParsedType(convert)
    if isinstance(convert, Whole):
        return click.IntRange(convert.least, convert.most)
    return convert


# -- commands ------------------------------------------------------------------------------------------


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def remember(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        # only ever switched on: `leptonctl --json show 3` and `leptonctl show --json 3` are the same
        if value:
            setattr(ctx.ensure_object(Session), name, value)
        return value

    return remember


def shared_options(*, hidden: bool) -> Callable[[F], F]:
    """The global options, for the group and for each command (there mostly out of sight)."""

    def add(function: F) -> F:
        for one in SHARED:
            words, given = one.spelled
            function = click.option(
                *words,
                f"shared_{one.dest}",
                expose_value=False,
                hidden=hidden and one.dest != "json",
                callback=_set(one.dest),
                **given,
            )(function)
        return function

    return add


def command(name: str, **attrs: Any) -> Callable[[Callable[..., None]], click.Command]:
    """A command of click's own that is handed the Session first and takes the shared options."""

    def wrap(function: Callable[..., None]) -> click.Command:
        settings = {**_SETTINGS, **attrs.pop("context_settings", {})}
        make: Any = click.command(name, context_settings=settings, **attrs)
        made: click.Command = make(click.pass_obj(shared_options(hidden=True)(_explained(function))))
        return made

    return wrap


def _explained(function: Callable[..., None]) -> Callable[..., None]:
    """The function; a UsageError that it raises becomes click's own."""

    @functools.wraps(function)
    def call(*args: Any, **values: Any) -> None:
        try:
            function(*args, **values)
        except UsageError as usage:
            raise _error(usage) from None

    return call


def _error(usage: UsageError, ctx: click.Context | None = None) -> click.UsageError:
    if usage.option is not None:
        return click.BadParameter(usage.message, ctx, param_hint=usage.option)
    return click.UsageError(usage.message, ctx)


class _Grouped(click.Command):
    """A command whose help has its options in groups, where there are many."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        records: dict[str, list[tuple[str, str]]] = {heading: [] for heading, _ in GROUPS}
        others: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                records.get(HEADINGS.get(parameter.name or "", ""), others).append(record)
        if sum(map(len, records.values())) < FEW:
            super().format_options(ctx, formatter)
            return
        for heading, lines in (*records.items(), ("Options", others)):
            if lines:
                with formatter.section(heading):
                    formatter.write_dl(lines)


class _Expanding(_Grouped):
    """A command that may put words before those that it was given."""

    declared: Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and self.declared.expand is not None:
            options, _, _ = self.make_parser(ctx).parse_args(list(args))
            # what was not given is None or a marker of click's, depending on its version
            raw = {name: v for name, v in options.items() if isinstance(v, str | bool | list | tuple)}
            try:
                args = [*self.declared.expand(raw), *args]
            except UsageError as usage:
                raise _error(usage, ctx) from None
        return super().parse_args(ctx, args)


def as_click(declared: Command) -> click.Command:
    """click's command from a declaration."""

    def function(*args: Any, **values: Any) -> None:
        declared.function(*args, **values)

    function.__doc__ = declared.function.__doc__
    parameters: tuple[Argument | Option, ...] = (*declared.arguments, *declared.options)
    for one in reversed(parameters):
        words, given = one.spelled
        given = {**given, "type": kind(given["type"])} if "type" in given else given
        add: Any = click.argument if isinstance(one, Argument) else click.option
        function = add(*words, **given)(function)
    attrs: dict[str, Any] = {"help": declared.help} if declared.help is not None else {}
    if not declared.interspersed:
        attrs["context_settings"] = {"allow_interspersed_args": False}
    attrs["cls"] = _Expanding if declared.expand is not None else _Grouped
    made = command(declared.name, short_help=declared.short_help, **attrs)(function)
    if isinstance(made, _Expanding):
        made.declared = declared
    return made


@functools.cache
def _loaded(name: str) -> click.Command:
    found: Command | click.Command = load(name)
    return as_click(found) if isinstance(found, Command) else found


class Verbs(click.Group):
    """Commands of one noun; the noun alone lists."""

    def invoke(self, ctx: click.Context) -> Any:
        ctx.ensure_object(Session)
        return super().invoke(ctx)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called; it turns failures into messages and exit
    codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        return _loaded(name) if name in MODULES else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if args and not name.startswith("-") and self.get_command(ctx, name) is None:
            from difflib import get_close_matches

            near = get_close_matches(name, [*MODULES, *ALIASES], n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        words = list(args)
        try:
            made = super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            _document(error, words)
            raise
        made.meta[_WORDS] = words
        return made

    def invoke(self, ctx: click.Context) -> Any:
        session = ctx.ensure_object(Session)
        try:
            code = session.run(functools.partial(super().invoke, ctx))
        except click.ClickException as error:
            _document(error, ctx.meta.get(_WORDS, []), session)
            raise
        ctx.exit(code)


_WORDS = "leptond.words"


def _document(error: click.ClickException, words: Sequence[str], session: Session | None = None) -> None:
    """Print a mistake as a problem body, where the call has --json; click prints it for people then."""
    before = words[: words.index("--")] if "--" in words else words
    session = session or Session()
    if session.json or "--json" in before:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "leptonctl"
        session.emit(usage_problem(error.format_message(), f"{path} --help"))


@click.group(
    cls=LazyGroup,
    context_settings={**_SETTINGS, "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 refused or failed, 2 usage, 3 not found, 4 wrong state, 5 not permitted, "
    "69 no daemon, 75 wait --timeout ran out. run and wait leave with the job's own code, 128+N for signal "
    "N, 124 for its time limit, 130 when it was cancelled.",
)
@click.version_option(__version__, prog_name="leptonctl")
@shared_options(hidden=False)
@click.pass_context
def group(ctx: click.Context) -> None:
    """leptonctl queues training jobs on this machine's GPUs and looks after them.

    The daemon is found by --host, by LEPTOND_HOST (unix:///path or http://host:port), or by its socket:
    the user's own first, then the machine's.
    """


def explain(declared: Command, usage: UsageError, words: Sequence[str] = ()) -> int:
    """Print what is wrong with a call of these words that was read without click, as click prints it; return
    the exit code."""
    above = click.Context(group, info_name="leptonctl", **group.context_settings)
    made = as_click(declared)
    error = _error(usage, click.Context(made, info_name=declared.name, parent=above, **made.context_settings))
    with contextlib.suppress(BrokenPipeError):
        _document(error, words)
        error.show()
    return error.exit_code
