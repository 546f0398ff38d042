// Words and numbers for people. Pure.

/** Seconds as the two largest units: 93784 -> "1d2h". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !isFinite(seconds)) return "–";
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)}s`;
  if (s < 60) return `${Math.round(s)}s`;
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => s >= size);
  const [name, size] = units[first];
  const whole = Math.floor(s / size);
  const next = units[first + 1];
  const rest = next ? Math.floor((s - whole * size) / next[1]) : 0;
  return rest ? `${whole}${name}${rest}${next[0]}` : `${whole}${name}`;
}

/** Bytes in binary units: 24 GiB. */
export function bytes(n) {
  if (n === null || n === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = n, unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export const percent = (ratio) => (ratio === null || ratio === undefined ? "–" : `${Math.round(ratio * 100)}%`);

export const seconds = (instant) => (instant ? Date.parse(instant) / 1000 : null);

/** A local clock time; with the day when it is not today. */
export function clock(instant) {
  if (!instant) return "–";
  const date = new Date(instant);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  return date.toDateString() === new Date().toDateString()
    ? time : `${date.toLocaleDateString([], { month: "short", day: "numeric" })} ${time}`;
}

/** "3m ago", "in 2h". */
export function relative(instant, now = Date.now() / 1000) {
  if (!instant) return "–";
  const delta = seconds(instant) - now;
  return delta > 0 ? `in ${duration(delta)}` : `${duration(-delta)} ago`;
}

export const STATES = {
  pending: "waits", starting: "starts", running: "runs", stopping: "stops",
  succeeded: "succeeded", failed: "failed", timed_out: "timed out", cancelled: "cancelled", lost: "lost",
};
export const LIVE = new Set(["starting", "running", "stopping"]);
export const ended = (state) => state !== "pending" && !LIVE.has(state);

const SHELL_SAFE = /^[A-Za-z0-9_@%+=:,./-]+$/;
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f]/g;
const escaped = (text) => text.replace(CONTROL, (one) => `\\x${one.charCodeAt(0).toString(16).padStart(2, "0")}`);
/** A word as a shell reads it back; control characters are spelled out ($'...', as bash and zsh know it). */
export function quote(word) {
  if (SHELL_SAFE.test(word)) return word;
  if (word.search(CONTROL) >= 0) return `$'${escaped(word.replaceAll("\\", "\\\\").replaceAll("'", "\\'"))}'`;
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** The leptonctl command that submits `job` again. */
export function asSubmit(job) {
  const spec = job.spec;
  const words = ["leptonctl", "submit"];
  const option = (name, value) => { if (value !== null && value !== undefined && value !== "") words.push(name, quote(String(value))); };
  const time = (name, value) => { if (value !== null && value !== undefined) option(name, `${value}s`); };
  const list = (name, values) => option(name, (values ?? []).join(","));
  option("--name", spec.name ?? job.name);
  if (spec.gpus) option("--gpus", spec.gpus);
  option("--gpu-type", spec.gpu_type);
  option("--gpu-mem", spec.gpu_memory_bytes);
  for (const flag of ["preemptible", "urgent", "exclusive", "cold"]) if (spec[flag]) words.push(`--${flag}`);
  if (spec.queue !== "default") option("--queue", spec.queue);
  if (spec.priority) option("--priority", spec.priority);
  time("--time", spec.time_limit_s);
  time("--grace", spec.grace_s);
  if (spec.warn_signal) option("--signal", `${spec.warn_signal.signal}@${spec.warn_signal.before_s}`);
  time("--no-progress", spec.no_progress_s);
  option("--retries", spec.retries);
  time("--retry-delay", spec.retry_delay_s);
  time("--retry-max-delay", spec.retry_max_delay_s);
  list("--retry-on", spec.retry_on);
  list("--no-retry-on", spec.no_retry_on);
  if (spec.fail_fast === false) words.push("--no-fail-fast");
  if (spec.requeue === false) words.push("--no-requeue");
  list("--after", spec.after);
  list("--after-any", spec.after_any);
  list("--after-fail", spec.after_fail);
  option("--array", job.array_index ?? spec.array);
  if (spec.hold) words.push("--hold");
  option("--begin", spec.begin_at);
  option("--log-max", spec.log_max_bytes);
  option("--output", spec.output);
  list("--track", spec.track);
  option("--project", spec.project);
  for (const [key, value] of Object.entries(spec.params ?? {})) option("--param", `${key}=${value}`);
  for (const [key, value] of Object.entries(spec.labels ?? {})) option("--label", `${key}=${value}`);
  option("--chdir", spec.cwd);
  option("--export", "NONE");
  // secrets are not given away: the line takes them from the shell that runs it
  for (const [key, value] of Object.entries(spec.env ?? {})) option("--env", value === "***" ? key : `${key}=${value}`);
  if (spec.shell) words.push("--shell");
  words.push("--", ...(spec.argv ?? []).map(quote));
  return words.join(" ");
}

export const command = (spec) => (spec.shell ? escaped(spec.argv[0]) : (spec.argv ?? []).map(quote).join(" "));

/** A number with at most four significant digits. */
export function figure(value) {
  if (value === null || value === undefined || typeof value !== "number") return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}
