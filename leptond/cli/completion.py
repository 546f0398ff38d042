"""`leptonctl completion`: what a shell has to load to complete commands, options and job ids."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from leptond.cli.clicked import command, group
from leptond.cli.session import Session

_INSTALL = {
    "bash": 'add to ~/.bashrc:  eval "$(leptonctl completion bash)"',
    "zsh": 'add to ~/.zshrc:  eval "$(leptonctl completion zsh)"',
    "fish": "run: leptonctl completion fish > ~/.config/fish/completions/leptonctl.fish",
}


@command("completion", short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(list(_INSTALL)))
def completion_command(session: Session, shell: str) -> None:
    """Print the script that makes a shell complete commands, options and job ids.

    bash: eval "$(leptonctl completion bash)" in ~/.bashrc; zsh the same in ~/.zshrc; fish: leptonctl
    completion fish > ~/.config/fish/completions/leptonctl.fish.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"this version of click has no completion for {shell}")
    maker = kind(group, {}, "leptonctl", "_LEPTONCTL_COMPLETE")
    script = maker.source_template % maker.source_vars()
    if session.json:
        session.emit({"shell": shell, "script": script})
        return
    click.echo(script)
    if session.table:
        session.say(_INSTALL[shell])
