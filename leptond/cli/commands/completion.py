"""`leptonctl completion`: what a shell has to load to complete commands, options and job ids."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from leptond.cli.framework.click_bridge import command, group
from leptond.cli.framework.session import Session

_INSTALL = {
    "bash": 'add to ~/.bashrc:  eval "$(leptonctl completion bash)"',
    "zsh": 'add to ~/.zshrc:  eval "$(leptonctl completion zsh)"',
    "fish": "run: leptonctl completion fish > ~/.config/fish/completions/leptonctl.fish",
}

_BASH = r"""
%(complete_func)s() {
    local IFS=$'\n'
    local line type value help
    local -a values=() shown=()
    for line in $(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" \
        %(complete_var)s=bash_complete "$1"); do
        IFS=$'\t' read -r type value help <<< "$line"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            *) values+=("$value"); shown+=("$value${help:+  ($help)}") ;;
        esac
    done
    # what a value means is shown in a list, and never put on the line
    if [[ ${#values[@]} -gt 1 && $COMP_TYPE != 37 && $COMP_TYPE != 42 ]]; then
        COMPREPLY=("${shown[@]}")
    else
        COMPREPLY=("${values[@]}")
    fi
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """bash knows no descriptions: they are shown behind the values, as long as there is a choice."""

    source_template = _BASH

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type}\t{item.value}\t{item.help or ''}"


add_completion_class(Bash)


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
