"""`leptonctl purge`: forget what has ended."""

from __future__ import annotations

import sys
from typing import Any

import click

from leptond.cli.commands import job_sets
from leptond.cli.commands.job_fields import FILTER_HELP
from leptond.cli.framework import refs
from leptond.cli.framework.click_bridge import command, kind
from leptond.cli.framework.params import JOB, SECONDS
from leptond.cli.framework.progress import Bar
from leptond.cli.framework.session import Session, confirm
from leptond.core.jobs.timespec import format_size


def _filters(function: Any) -> Any:
    """The options that narrow a list of jobs by a field."""
    for name, help in reversed(FILTER_HELP.items()):
        function = click.option(name, help=help)(function)
    return function


@command("purge", short_help="Forget finished jobs, their output and old events.")
@click.argument("jobs", nargs=-1, type=kind(JOB))
@click.option("--all", "everything", is_flag=True, help="All that have ended, of everybody if you may.")
@click.option("--mine", is_flag=True, help="All of my own that have ended.")
@_filters
@click.option("--state", metavar="STATES", help="Only those in these states (comma list).")
@click.option("--label", metavar="K=V", help="Only those with this label.")
@click.option(
    "--older-than", type=kind(SECONDS), metavar="AGE", help="Every job that ended longer ago (as 30d)."
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and how many bytes; change nothing.")
@click.option("--checkpoints", is_flag=True, help="With the last job that used them, checkpoints too.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def purge_command(
    session: Session,
    jobs: tuple[str, ...],
    older_than: float | None,
    dry_run: bool,
    checkpoints: bool,
    yes: bool,
    **given: Any,
) -> None:
    """Forget finished JOBS, or all finished ones that the filters choose; or, without either, all that
    is over the limits of [retention] in the daemon's configuration (which it does every hour by itself),
    or older than --older-than. What an unfinished job needs stays. The costs of forgotten jobs stay in the
    ledger."""
    if jobs and (older_than is not None or dry_run or checkpoints):
        raise click.UsageError("--older-than, --dry-run and --checkpoints are for a purge without JOBS")
    if any(value not in (None, False) for value in given.values()):
        if older_than is not None:
            raise click.UsageError("--older-than is for a purge without filters")
        chosen = job_sets.chosen(jobs, {**given, "never": False})
        assert chosen is not None
        _purge_set(session, chosen, dry_run=dry_run, checkpoints=checkpoints, yes=yes)
        return
    if jobs:
        wanted = refs.expand(session, jobs, same_name="only", whole=True)
        if any(map(refs.is_whole, wanted)) or (len(wanted) > job_sets.MANY and not session.json):
            job_sets.change_named(session, "purge", wanted, done="forgotten")
            return
        with Bar(session, "forgetting", len(wanted)) as bar:
            for ref in wanted:
                session.api.request("DELETE", refs.job_path(ref))
                bar.add()
                if not session.json:
                    click.echo(f"Job {ref} is forgotten")
        if session.json:
            session.emit(wanted)
        return
    body: dict[str, Any] = {"checkpoints": checkpoints}
    if older_than is not None:
        body["older_than_s"] = older_than
    if not dry_run and sys.stdin.isatty() and not yes:
        would = session.api.post("/v1/purge", {**body, "dry_run": True})
        confirm(session, f"Forget {_words(would)}?")
    with Bar(session, "forgetting"):
        done = session.api.post("/v1/purge", {**body, "dry_run": dry_run})
    if session.json:
        session.emit(done)
        return
    click.echo(f"{'Would forget' if dry_run else 'Forgot'} {_words(done)}")
    if dry_run and done["job_ids"]:
        more = " ..." if done["jobs"] > len(done["job_ids"]) else ""
        click.echo("jobs " + " ".join(map(str, done["job_ids"])) + more)


def _purge_set(
    session: Session, body: dict[str, Any], *, dry_run: bool, checkpoints: bool, yes: bool
) -> None:
    if not dry_run:
        more = {"checkpoints": checkpoints}
        job_sets.change(session, "purge", body, done="forgotten", yes=yes, more=more)
        return
    would = session.api.post("/v1/jobs:purge", {**body, "dry_run": True})
    if session.json:
        session.emit(would)
    else:
        click.echo(f"Would forget {would['finished']:,} jobs, of those that nothing needs")


def _words(done: dict[str, Any]) -> str:
    return (
        f"{done['jobs']} jobs, the output of {done['outputs']} more attempts and {done['events']} events: "
        f"{format_size(done['bytes'])}"
    )
