"""Settings: a TOML file, overlaid by ``LEPTOND_<SECTION>__<KEY>`` variables. Every key has a default."""

from __future__ import annotations

import inspect
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from leptond.base.errors import StartRefused, start_refused
from leptond.base.section import NotNegative, Positive, Section
from leptond.core.access.rules import AccessRules
from leptond.core.access.run_as import AccountSettings
from leptond.core.accounting.prices import Rates
from leptond.core.admission.admission import Defaults
from leptond.core.retention_limits import RetentionLimits
from leptond.core.scheduling.fair_share import Caps, Fairness, Limits
from leptond.core.scheduling.inputs import PlannerFigures, Policy, PolicyName
from leptond.core.scheduling.topology import Topology
from leptond.core.webhooks import EventName

_USUAL = Policy()


class HttpSettings(Section, frozen=True, kw_only=True):
    """`listen`: HOST:PORT of a TCP listener, off when empty (then only the Unix socket is served).
    `allowed_hosts`: further names for the Host header. `tls_cert` and `tls_key`: PEM files, for TLS there.
    `behind_tls_proxy`: a proxy with TLS stands before it. Without either, `listen` must be this machine's own
    (127.0.0.1). `max_body_bytes`, and `max_batch_bytes` for a
    batch: a larger body gets 413. `request_timeout_s`: a whole request, streams apart. `submits_per_s` and
    `submit_burst`: how fast one user may submit before 429. `job_metrics`: /metrics also names the job on
    each GPU (`leptond_running_job_info`): a new time series for every job."""

    listen: str = ""
    allowed_hosts: Sequence[str] = []
    tls_cert: str = ""
    tls_key: str = ""
    behind_tls_proxy: bool = False
    max_body_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    max_batch_bytes: Annotated[int, Meta(ge=1024, le=256 * 1024 * 1024)] = 16 * 1024 * 1024
    request_timeout_s: Positive = 15.0
    submits_per_s: Positive = 200.0
    submit_burst: Annotated[int, Meta(ge=1)] = 1000
    job_metrics: bool = False


class QueueSettings(Section, frozen=True, kw_only=True):
    """`policy`: who goes first, one of auto, fifo, firstfit, shortest, easy, throughput (docs/concepts.md).
    `urgent_users`: who may submit with --urgent, beside root and the daemon's own user. `max_pending`:
    submits beyond it get 429. `cpu_slots`: how many jobs without GPUs run at a time
    (0: as many as the machine has cores). `max_bypass_s`: under firstfit, how long later jobs
    may overtake a job before GPUs are reserved for it (0: as long as it takes)."""

    policy: PolicyName = _USUAL.name
    urgent_users: Sequence[str] = []
    max_pending: Annotated[int, Meta(ge=1)] = 1_000_000
    cpu_slots: Annotated[int, Meta(ge=0, le=4096)] = 0
    max_bypass_s: NotNegative = _USUAL.max_bypass_s


class GpuSettings(Section, frozen=True, kw_only=True):
    """`backend`: `auto` takes NVML and goes on without GPUs where there is no driver; `nvml` insists on it;
    `simulated` makes `simulate` devices that `state_file` (JSON) may give a state; `none`. `sample_s`: how
    often the devices are sampled. `driver_timeout_s`: a driver call that takes longer makes
    the devices unschedulable until the driver answers again. `simulate_topology`: how simulated devices are
    connected (`none`, `pcie`, `pairs`, `cube-mesh`, `nvswitch`); `simulate_model` and
    `simulate_memory_bytes`: what each of them is. `sharing`: jobs that say how much memory they use
    (`--gpu-mem`) may be packed on one GPU; nothing but their own word keeps them within it. `cpu_affinity`:
    jobs run on the CPUs that are nearest to their GPUs, where those are known."""

    backend: Literal["auto", "nvml", "simulated", "none"] = "auto"
    simulate: Annotated[int, Meta(ge=0, le=64)] = 0
    sample_s: Annotated[float, Meta(ge=0.2, le=3600)] = 5.0
    driver_timeout_s: Annotated[float, Meta(ge=0.2, le=600)] = 10.0
    state_file: str = ""
    simulate_topology: Topology = "none"
    simulate_model: Annotated[str, Meta(min_length=1, max_length=96)] = "Simulated GPU"
    simulate_memory_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 50)] = 24 * 1024**3
    sharing: bool = False
    cpu_affinity: bool = True


class ShareSettings(Fairness, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fair share: use counts half after `half_life_s`, and costs who has had more than a share at most
    `max_handicap_s` of waiting (0: fair share is off). What one user or project may have at a time, 0 for no
    cap: `user_max_gpus` and `project_max_gpus` run (a share of a GPU counts as its part), `user_max_pending`
    and `project_max_pending` jobs wait. `leptonctl limits` sets others for single users and projects."""

    user_max_gpus: Annotated[int, Meta(ge=0)] = 0
    user_max_pending: Annotated[int, Meta(ge=0)] = 0
    project_max_gpus: Annotated[int, Meta(ge=0)] = 0
    project_max_pending: Annotated[int, Meta(ge=0)] = 0

    def limits(self) -> Limits:
        """Return the caps of every user and project for which no others are set."""
        return Limits(
            users=Caps(max_gpus=self.user_max_gpus or None, max_pending=self.user_max_pending or None),
            projects=Caps(
                max_gpus=self.project_max_gpus or None, max_pending=self.project_max_pending or None
            ),
        )


class EngineSettings(Section, frozen=True, kw_only=True):
    """`containment`: `auto` uses a cgroup where one is delegated to the daemon, else the process tree
    (`descendants`). `cgroup_root`: the delegated cgroup (empty: the daemon's own). `linger_s`: how long
    processes that a job left behind may take to end after a SIGTERM. `prefork`: the supervising processes
    are forked from one that is kept ready and take one job after another, instead of each starting an
    interpreter. `warm`: jobs that call
    Python start in a process that has `warm_imports` behind it (docs/operations.md, Warm starts).
    `warm_learn`: and what such jobs have imported in their first seconds, as far as that takes less than
    `warm_learn_s` and `warm_learn_bytes`. At most
    `warm_max` of those are kept, of at most `warm_max_bytes` together, each until it has been unused for
    `warm_idle_s`. `start_timeout_s`: for
    the supervising process to get ready. `kill_timeout_s`: after it, what SIGKILL did not end is called
    unkillable, and its GPUs are drained. `standby`: how many jobs that are likely to start next have their
    supervising process ready while they wait (0: none; formerly `on_deck`, which still works). `spawner`: the
    socket of a spawn server (`leptond spawn-server`), in whose unit jobs run then (empty: the daemon starts
    them itself, and they inherit its sandbox)."""

    containment: Literal["auto", "cgroup", "descendants"] = "auto"
    cgroup_root: str = ""
    linger_s: Annotated[float, Meta(ge=0, le=600)] = 2.0
    prefork: bool = True
    warm: bool = True
    warm_imports: Annotated[list[str], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["torch"])
    warm_learn: bool = True
    warm_learn_s: Positive = 120.0
    warm_learn_bytes: Annotated[int, Meta(ge=0)] = 2 * 1024**3
    warm_max: Annotated[int, Meta(ge=1, le=64)] = 4
    warm_max_bytes: Annotated[int, Meta(ge=0)] = 4 * 1024**3
    warm_idle_s: Positive = 1800.0
    start_timeout_s: Positive = 20.0
    kill_timeout_s: Positive = 60.0
    standby: Annotated[int, Meta(ge=0, le=64)] = 8
    spawner: str = ""


class StorageSettings(Section, frozen=True, kw_only=True):
    """Protection of the queue on its disk. `backup_every_s`: how often the daemon copies its database into
    `backups/` of its state directory (0: never); `backup_keep`: how many copies stay there.
    `min_free_bytes`: with less free, on the disk of the state directory or of the jobs' directories, submits
    get 507. `ballast_bytes`: a file of this size is kept allocated, and dropped when the disk is full, so
    that the ends of running jobs can still be recorded (0: none)."""

    backup_every_s: NotNegative = 86400.0
    backup_keep: Annotated[int, Meta(ge=1, le=1000)] = 7
    min_free_bytes: Annotated[int, Meta(ge=0)] = 128 * 1024 * 1024
    ballast_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 32 * 1024 * 1024


class LogSettings(Section, frozen=True, kw_only=True):
    """The daemon's own log, on standard error. `level`: debug, info, warning or error. `format`: `auto` is
    text on a terminal and JSON otherwise."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


class Hook(Section, frozen=True, kw_only=True):
    """An address that events are sent to: http(s) gets JSON, any other is a service that apprise knows."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    url: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9+.-]*://[^\s]+$", max_length=2048)]
    events: Annotated[list[EventName], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["job.ended"]
    )
    secret_file: str = ""


class WebhookSettings(Section, frozen=True, kw_only=True):
    """`hooks`: addresses that events are sent to, each `{name, url, events, secret_file}`. `events`: names
    such as job.ended (the default), job.submitted, job.requeued, gpu.state. With a `secret_file` every
    request is signed. A `url` that is neither http nor https is a service of people (`ntfy://...`,
    `slack://...`, `mailto://...`), which gets a text, by the package apprise (install it beside leptond)."""

    hooks: Sequence[Hook] = []


class Settings(Section, frozen=True, kw_only=True):
    """The whole file."""

    http: HttpSettings = HttpSettings()
    queue: QueueSettings = QueueSettings()
    planner: PlannerFigures = PlannerFigures()
    jobs: Defaults = Defaults()
    accounts: AccountSettings = AccountSettings()
    shares: ShareSettings = ShareSettings()
    gpus: GpuSettings = GpuSettings()
    engine: EngineSettings = EngineSettings()
    cost: Rates = Rates()
    webhooks: WebhookSettings = WebhookSettings()
    storage: StorageSettings = StorageSettings()
    retention: RetentionLimits = RetentionLimits()
    log: LogSettings = LogSettings()
    access: AccessRules = AccessRules()

    def policy(self) -> Policy:
        """Return the planner's policy: its name and figures, the caps, and fair share."""
        shares = self.shares
        return Policy(
            name=self.queue.policy,
            max_bypass_s=self.queue.max_bypass_s,
            limits=shares.limits(),
            # as stored with the order keys: without the caps
            fairness=Fairness(half_life_s=shares.half_life_s, max_handicap_s=shares.max_handicap_s),
            **msgspec.structs.asdict(self.planner),
        )

    def cpu_slots(self) -> int:
        """Return the number of CPU slots of this machine."""
        return self.queue.cpu_slots or os.cpu_count() or 1


SECTIONS = Settings.__struct_fields__

ALIASES: Mapping[tuple[str, str], str] = {("engine", "on_deck"): "standby"}
"""Keys by their section and former name. Where both are set, the present name counts."""


def reference() -> str:
    """Return the reference of all keys, in Markdown, as docs/operations.md has it (a test compares them)."""
    lines: list[str] = []
    for field in msgspec.structs.fields(Settings):
        words = " ".join((inspect.getdoc(field.type) or "").split())
        lines += [f"### `[{field.name}]`", "", words, "", "| key | default |", "|---|---|"]
        for key in msgspec.structs.fields(field.type):
            default = key.default if key.default is not msgspec.NODEFAULT else key.default_factory()
            lines.append(f"| `{key.name}` | `{msgspec.json.encode(default).decode()}` |")
        lines.append("")
    return "\n".join(lines)


def parse(text: str, environ: Mapping[str, str]) -> Settings:
    """Return the settings of a TOML file's text and the environment. Raises StartRefused (exit code 78),
    naming the key."""
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StartRefused(f"the configuration is not TOML: {error}", 78) from None
    _use_present_names(raw)
    for name, value in sorted(environ.items()):
        section, mark, key = name.removeprefix("LEPTOND_").lower().partition("__")
        if not name.startswith("LEPTOND_") or not mark:
            continue
        if section not in SECTIONS:
            raise StartRefused(
                f"{name}: there is no section [{section}]; there are {', '.join(SECTIONS)}", 78
            )
        try:
            raw.setdefault(section, {})[ALIASES.get((section, key), key)] = (
                msgspec.json.decode(value) if value[:1] in "[{" and value else value
            )
        except (msgspec.DecodeError, TypeError, AttributeError) as error:
            raise StartRefused(f"{name}: {error}", 78) from None
    try:
        return msgspec.convert(raw, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise StartRefused(f"the configuration is not valid: {error}", 78) from None


def _use_present_names(raw: dict[str, Any]) -> None:
    """Rename the keys of a configuration that are written by their former names."""
    for (section, former), present in ALIASES.items():
        table = raw.get(section)
        if isinstance(table, dict) and former in table:
            table.setdefault(present, table.pop(former))


def load(file: Path, *, required: bool) -> Settings:
    """Return the settings of `file`, overlaid by the environment. A missing file means the defaults, unless
    it is `required`. Raises StartRefused."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        if required:
            raise StartRefused(f"there is no configuration file {file}", 78) from None
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        what = f"the configuration {file} cannot be read"
        if isinstance(error, OSError):
            raise start_refused(what, error) from None
        raise StartRefused(f"{what}: {error}", 78) from None
    return parse(text, os.environ)
