"""`leptonctl monitoring`: what Prometheus and Grafana need to watch leptond, as files of theirs."""

from __future__ import annotations

import click

from leptond.base.paths import data_dir
from leptond.cli.framework.click_bridge import command
from leptond.cli.framework.session import Session
from leptond.cli.framework.terminal import echo

FILES = {"scrape": "scrape.yml", "alerts": "alerts.yml", "dashboard": "grafana.json"}


@command("monitoring", short_help="Files for Prometheus and Grafana.")
@click.argument("what", type=click.Choice(list(FILES)))
def monitoring_command(session: Session, what: str) -> None:
    """Print a file: for Prometheus, where to scrape (scrape) and when to call somebody (alerts); for
    Grafana, the dashboard to import (dashboard).

    As in: leptonctl monitoring alerts > /etc/prometheus/leptond-alerts.yml
    """
    file = data_dir("monitoring") / FILES[what]
    text = file.read_text(encoding="utf-8")
    if session.json:
        session.emit({"file": str(file), "text": text})
    else:
        echo(text.removesuffix("\n"))
