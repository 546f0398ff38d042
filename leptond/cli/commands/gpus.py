"""`leptonctl gpus`, `drain` and `undrain`: the devices."""

from __future__ import annotations

from collections.abc import Sequence

from leptond.cli.framework.declare import argument, command, option
from leptond.cli.framework.output import Cell, Column, print_table
from leptond.cli.framework.params import GPUS
from leptond.cli.framework.session import Session
from leptond.cli.framework.terminal import echo
from leptond.cli.text import phrases

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any

GPU_COLUMNS = (
    Column("GPU", right=True),
    Column("NAME", shorten=8),
    Column("MEMORY", right=True),
    Column("UTIL", right=True),
    Column("TEMP", right=True),
    Column("POWER", right=True),
    Column("JOB", right=True),
    Column("STATE", fold=True),
)
_PLACE_COLUMNS = (Column("NUMA", right=True), Column("LINKS", fold=True), Column("QUEUE"))
_PIPE_COLUMNS = (*GPU_COLUMNS, Column("UUID"), Column("FOREIGN"), *_PLACE_COLUMNS)


def gpu_row(gpu: phrases.Body, *, table: bool) -> list[Cell]:
    """A GPU as a row under GPU_COLUMNS. For programs memory is ``used/total`` in bytes."""
    utilization, temperature, power = gpu.get("utilization"), gpu.get("temperature_c"), gpu.get("power_w")
    used = gpu.get("memory_used_bytes")
    total = gpu["memory_total_bytes"]
    memory = phrases.memory_of(gpu) if table else f"{'-' if used is None else used}/{total}"
    return [
        gpu["index"],
        gpu["name"] + (" (simulated)" if gpu["simulated"] and "imulated" not in gpu["name"] else ""),
        memory,
        None if utilization is None else f"{utilization:.0%}",
        None if temperature is None else f"{temperature:.0f}°C" if table else f"{temperature:g}",
        None if power is None else f"{power:.0f} W" if table else f"{power:g}",
        ",".join(str(job.get("ref", job["id"])) for job in gpu.get("jobs") or []) or gpu.get("job_id"),
        phrases.state_of_gpu(gpu),
    ]


def _foreign(gpu: phrases.Body) -> str:
    strangers = [p for p in gpu.get("processes") or [] if p.get("job_id") is None]
    return ", ".join(f"pid {p['pid']} {p.get('name') or ''}".strip() for p in strangers)


def place_cells(gpu: phrases.Body, gpus: Sequence[phrases.Body]) -> list[Cell]:
    """A GPU's memory node, its links as ``NV4:1 NODE:2,3`` (the best first, with indices), its queue."""
    from leptond.core.scheduling.gpu_links import link_quality

    index_of = {one["uuid"]: one["index"] for one in gpus}
    ends: dict[str, list[int]] = {}
    for uuid, link in (gpu.get("links") or {}).items():
        if uuid in index_of:
            ends.setdefault(link, []).append(index_of[uuid])
    order = sorted(ends, key=link_quality, reverse=True)
    links = " ".join(f"{link}:{','.join(map(str, sorted(ends[link])))}" for link in order)
    return [gpu.get("numa_node"), links or None, gpu.get("queue")]


@command("gpus", short_help="The GPUs and who has them.")
@option("--no-header", is_flag=True, help="Leave the column heads out.")
def gpus_command(session: Session, no_header: bool) -> None:
    """List the GPUs of this machine, what they do and who has them."""
    found = session.api.get("/v1/gpus")
    if session.json:
        session.emit(found)
        return
    gpus: list[dict[str, Any]] = found["items"]
    if not gpus:
        session.say(f"There are no GPUs here ({found.get('note') or found['backend']}).")
        session.say("Jobs without GPUs run in CPU slots. To try it out: leptond run --simulate-gpus 4")
        if session.table:
            return
    if session.table:
        placed = any(gpu.get("links") or gpu.get("queue") or gpu.get("numa_node") is not None for gpu in gpus)
        print_table(
            session,
            (*GPU_COLUMNS, *_PLACE_COLUMNS) if placed else GPU_COLUMNS,
            ([*gpu_row(gpu, table=True), *(place_cells(gpu, gpus) if placed else ())] for gpu in gpus),
            header=not no_header,
        )
        for gpu in gpus:
            if _foreign(gpu):
                session.say(f"GPU {gpu['index']}: in use by others: {_foreign(gpu)}")
    else:
        rows = (
            [*gpu_row(gpu, table=False), gpu["uuid"], _foreign(gpu), *place_cells(gpu, gpus)] for gpu in gpus
        )
        print_table(session, _PIPE_COLUMNS, rows, header=not no_header)
    if gpus and found.get("note"):
        session.say(found["note"])


@command("drain", short_help="Take GPUs out of service.")
@argument("gpus", nargs=-1, required=True, type=GPUS, metavar="GPU...")
@option("--reason", metavar="TEXT", help="Why, for those who wonder.")
def drain_command(session: Session, gpus: tuple[list[int], ...], reason: str | None) -> None:
    """Take GPUs (by index: 0, GPU0, 0,2 or 0-3) out of service: what runs there goes on, nothing new
    starts."""
    _change(session, gpus, "drain", {"reason": reason} if reason else None)


@command("undrain", short_help="Put GPUs back into service.")
@argument("gpus", nargs=-1, required=True, type=GPUS, metavar="GPU...")
def undrain_command(session: Session, gpus: tuple[list[int], ...]) -> None:
    """Put GPUs (by index: 0, GPU0, 0,2 or 0-3) back into service."""
    _change(session, gpus, "undrain", None)


def _change(session: Session, gpus: tuple[list[int], ...], action: str, body: dict[str, str] | None) -> None:
    indices = list(dict.fromkeys(index for some in gpus for index in some))
    if len(indices) > 1:
        known = {gpu["index"] for gpu in session.api.get("/v1/gpus")["items"]}
        # one that is not there is asked for first, and refused before any other changes
        indices.sort(key=lambda index: index in known)
    changed = [session.api.post(f"/v1/gpus/{index}/{action}", body) for index in indices]
    if session.json:
        session.emit(changed[0] if len(changed) == 1 else changed)
        return
    for gpu in changed:
        busy = f"; job {gpu['job_id']} goes on there" if gpu.get("job_id") is not None else ""
        echo(f"GPU {gpu['index']}: {phrases.state_of_gpu(gpu)}{busy if gpu['drained'] else ''}")
