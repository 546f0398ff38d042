"""`leptonctl token`: tokens of persons, and `leptonctl whoami`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from leptond.cli.framework.click_bridge import Verbs, command, shared_options
from leptond.cli.framework.output import Cell, Column, print_table
from leptond.cli.framework.session import Session
from leptond.cli.text import phrases
from leptond.core.jobs import timespec

_COLUMNS = (
    Column("ID"),
    Column("NAME", fold=True),
    Column("USER"),
    Column("ROLE"),
    Column("KIND"),
    Column("EXPIRES"),
    Column("USED"),
)
ROLES = ("viewer", "user", "operator", "admin")


def _lifetime(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = timespec.parse_duration(text, bare_s=86400.0)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if seconds <= 0:
        raise click.BadParameter("it must be over 0")
    return seconds


@click.group(
    "token",
    cls=Verbs,
    short_help="Tokens for TCP and the page: new, list, revoke.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@shared_options(hidden=True)
def token_command() -> None:
    """Make, list and revoke tokens, with which a person or a program uses the queue over TCP.

    A token never gives more than its account has. It is made over the Unix socket only, told once, and
    worthless as soon as it is revoked."""


@token_command.command("new", short_help="Make a token; it is printed once.")
@shared_options(hidden=True)
@click.argument("name", metavar="NAME")
@click.option("--role", type=click.Choice(ROLES), help="What it may do at most [user].")
@click.option("--user", metavar="USER", help="For another person (administrators only).")
@click.option("--expires", metavar="TIME", callback=_lifetime, help="Its life, as 12h or 30d [90d].")
@click.pass_obj
def new_token(session: Session, name: str, role: str | None, user: str | None, expires: float | None) -> None:
    """Make a token and print it. NAME says what it is for. It is shown this once: keep it in a file that
    only you can read, and give it to leptonctl as LEPTOND_TOKEN or in ~/.config/leptond/token."""
    body: dict[str, Any] = {"name": name}
    body |= {"role": role} if role is not None else {}
    body |= {"user": user} if user is not None else {}
    body |= {"lifetime_s": expires} if expires is not None else {}
    made = session.api.request("POST", "/v1/tokens", body=body).json()
    if session.json:
        session.emit(made)
        return
    click.echo(made["secret"])
    token = made["token"]
    session.say(
        f"token {token['id']} of {token['user']}, role {token['role']}, until {token['expires_at']};"
        f" leptonctl token revoke {token['id']} ends it"
    )


@token_command.command("list", short_help="The tokens and sessions that are valid.")
@shared_options(hidden=True)
@click.option("--no-header", is_flag=True, help="Leave the column heads out.")
@click.pass_obj
def list_tokens(session: Session, no_header: bool) -> None:
    """List your tokens and the sessions of the page; administrators see those of all."""
    found = session.api.get("/v1/tokens")
    if session.json:
        session.emit(found)
        return
    print_table(session, _COLUMNS, map(_row(session), found["items"]), header=not no_header)


def _row(session: Session) -> Any:
    def row(token: phrases.Body) -> list[Cell]:
        return [
            token["id"],
            token["name"],
            token["user"],
            token["role"],
            token["kind"],
            token["expires_at"],
            phrases.ago(token["last_used_at"], table=session.table) if token["last_used_at"] else None,
        ]

    return row


@token_command.command("revoke", short_help="End tokens or sessions, at once.")
@shared_options(hidden=True)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.pass_obj
def revoke_tokens(session: Session, ids: tuple[str, ...]) -> None:
    """Make tokens worthless at once, by their IDs or names (`leptonctl token list`). Streams that they have
    opened end."""
    for one in ids:
        session.api.request("DELETE", f"/v1/tokens/{quote(one, safe='')}")
        session.say(f"token {one} is revoked")


@command("whoami", short_help="Who you are to the daemon, and your role.")
def whoami_command(session: Session) -> None:
    """Print as whom the daemon knows you, and what you may do."""
    me = session.api.get("/v1/me")
    if session.json:
        for secret in ("page_url", "page_url_read_only"):
            me.pop(secret, None)
        session.emit(me)
        return
    role = me.get("role") or ("admin" if me["admin"] else "viewer" if me["read_only"] else "user")
    uid = f" (uid {me['uid']})" if me.get("uid") is not None else ""
    via = {"socket": "the socket", "token": "a token", "session": "a session"}[me.get("via", "socket")]
    click.echo(f"{me['user']}{uid}, {role}, known by {via}")
    if me.get("job") is not None:
        session.say(
            f"as a process of job {me['job']}: with the rights of its owner, and no more than a user's"
        )
    if not me.get("sees_everything", True):
        session.say("jobs of others are shown with their id, user, state, GPUs and times only")
