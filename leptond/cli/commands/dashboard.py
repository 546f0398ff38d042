"""`leptonctl dashboard`: the address of the page."""

from __future__ import annotations

import click

from leptond.cli.framework.click_bridge import command
from leptond.cli.framework.session import Session, leave


@command("dashboard", short_help="The address of the page.")
@click.option("--read-only", is_flag=True, help="An address that only looks, to hand to others.")
@click.option("--open", "open_it", is_flag=True, help="Open it in a browser.")
def dashboard_command(session: Session, read_only: bool, open_it: bool) -> None:
    """Print the address of the page, with a token in its fragment (which browsers do not send)."""
    me = session.api.get("/v1/me")
    url = me.get("page_url_read_only" if read_only else "page_url")
    if session.json:
        session.emit({"url": url})
    if url is None:
        session.warn("the page is not served, or not to you")
        session.say(
            "  it comes over TCP: leptond run --listen 127.0.0.1:8370, or listen in [http] of the config;"
        )
        session.say("  its address is told on the Unix socket to the daemon's own user and to root")
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
