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
  pending: "pending", starting: "starting", running: "running", stopping: "stopping",
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

export const command = (spec) => (spec.shell ? escaped(spec.argv[0]) : (spec.argv ?? []).map(quote).join(" "));

/** A number with at most four significant digits. */
export function figure(value) {
  if (value === null || value === undefined || typeof value !== "number") return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}
