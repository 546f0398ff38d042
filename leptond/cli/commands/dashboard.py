"""`leptonctl dashboard`: the address of the page."""

from __future__ import annotations

import os

import click

from leptond.cli.framework.click_bridge import command
from leptond.cli.framework.session import Session, leave
from leptond.client.target import DEFAULT_PORT


@command("dashboard", short_help="The address of the page.")
@click.option("--read-only", is_flag=True, help="A link that only looks, to hand to others.")
@click.option("--open", "open_it", is_flag=True, help="Open it in a browser.")
def dashboard_command(session: Session, read_only: bool, open_it: bool) -> None:
    """Print a link that signs in to the page, once and within two minutes. What is secret of it is in its
    fragment, which browsers do not send."""
    me = session.api.get("/v1/me")
    url = me.get("page_url_read_only" if read_only else "page_url")
    if session.json:
        session.emit({"url": url})
    if url is None:
        _not_served(session, socket=session.api.target.path is not None)
        leave(1)
        return
    if not session.json:
        click.echo(url)
        port = url.partition("#")[0].rstrip("/").rpartition(":")[2]
        session.say(
            f"from another machine: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE, then the same address"
        )
    if open_it:
        import webbrowser

        if not webbrowser.open(url):
            session.warn("no browser could be started here")
            leave(1)


def _not_served(session: Session, *, socket: bool) -> None:
    """Say why there is no address, and what to do on this machine."""
    if not socket:
        session.warn("over TCP the daemon gives no link; ask on the machine itself, without --host")
        return
    from leptond.client.installation import config_file, installed, systemctl

    kind = installed(os.environ)
    session.warn("the daemon serves no page: its TCP is off")
    session.say(f'  set listen = "127.0.0.1:{DEFAULT_PORT}" below [http] in {config_file(kind, os.environ)},')
    if kind is None:
        session.say(f"  or start it with: leptond run --listen 127.0.0.1:{DEFAULT_PORT}")
    else:
        session.say(f"  and restart it: {systemctl(kind, 'restart')}; jobs go on")
