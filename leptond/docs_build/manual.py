"""The manual pages, made from the commands themselves. They are in ``docs/man/`` (written by
:mod:`leptond.docs_build.reference`), from where the wheel takes them to share/man/man1."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

ENVIRONMENT = {
    "LEPTOND_HOST": "Where the daemon is: unix:///path or http://host:port.",
    "LEPTOND_TOKEN": "The token for a daemon that is reached over TCP.",
    "NO_COLOR": "No colours, when it is set to anything.",
    "FORCE_COLOR": "Colours also in a pipe.",
}
SEE_ALSO = {"leptonctl": "leptond", "leptond": "leptonctl"}


def page(name: str, group: click.Group) -> str:
    """The page of a program and all its commands, in man(7)."""
    top = click.Context(group, info_name=name, **group.context_settings)
    text = (group.help or "").strip()
    title, _, rest = text.partition("\n\n")
    lines = [
        '.\\" made by python -m leptond.docs_build.reference from the help of the commands',
        f".TH {name.upper()} 1",
        f".SH NAME\n{name} \\- {_text(_one_line(title).removeprefix(name + ' ').rstrip('.'))}",
        f".SH SYNOPSIS\n.B {name}\n[OPTIONS] COMMAND [ARGS]...",
    ]
    if rest:
        lines.append(f".SH DESCRIPTION\n{_paragraphs(rest)}")
    lines += [".SH OPTIONS", *_options(group, top), ".SH COMMANDS"]
    for command_name in group.list_commands(top):
        command = group.get_command(top, command_name)
        if command is not None and not command.hidden:
            lines += _command(command, command_name, top)
    if name == "leptonctl":
        lines.append(".SH ENVIRONMENT")
        lines += [f".TP\n.B {variable}\n{_text(meaning)}" for variable, meaning in ENVIRONMENT.items()]
    if group.epilog:
        lines.append(f".SH EXIT STATUS\n{_paragraphs(group.epilog.removeprefix('Exit codes: '))}")
    lines.append(f".SH SEE ALSO\n.BR {SEE_ALSO[name]} (1)")
    return "\n".join(lines) + "\n"


def _command(command: click.Command, name: str, above: click.Context) -> Iterator[str]:
    ctx = click.Context(command, info_name=name, parent=above, **command.context_settings)
    path = ctx.command_path.partition(" ")[2]
    yield f".SS {_text(' '.join([path, *command.collect_usage_pieces(ctx)]))}"
    yield _paragraphs(command.help or command.short_help or "")
    yield from _options(command, ctx)
    if isinstance(command, click.Group):
        for below in command.list_commands(ctx):
            found = command.get_command(ctx, below)
            if found is not None:
                yield from _command(found, below, ctx)


def _options(command: click.Command, ctx: click.Context) -> Iterator[str]:
    for parameter in command.get_params(ctx):
        shown_above = ctx.parent is not None and (parameter.name or "").startswith("shared_")
        if not isinstance(parameter, click.Option) or "--help" in parameter.opts or shown_above:
            continue
        record = parameter.get_help_record(ctx)
        if record is not None:
            yield f".TP\n.B {_text(record[0])}\n{_text(record[1])}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _paragraphs(text: str) -> str:
    return "\n.PP\n".join(_text(_one_line(part)) for part in re.split(r"\n\s*\n", text.strip()))


def _text(text: str) -> str:
    """A line for roff, which takes dots and quotes at a line's begin, hyphens and backslashes as its own."""
    found = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return f"\\&{found}" if found[:1] in (".", "'") else found


def pages() -> dict[str, str]:
    """All pages by the names of their files."""
    from leptond.__main__ import main as leptond
    from leptond.cli.framework.click_bridge import group as leptonctl

    return {"leptonctl.1": page("leptonctl", leptonctl), "leptond.1": page("leptond", leptond)}
