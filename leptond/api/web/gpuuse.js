// How a job used its GPUs: load and memory by minute, and what the samples add up to.

import { html, useEffect, useState } from "/web/vendor/htm-preact.js";
import { get } from "/web/api.js";
import { bytes, clock, duration, percent, seconds } from "/web/format.js";

const WIDE = 600, HIGH = 48;

/** Load as an area, memory as a line (of its own peak); minutes that nobody sampled are gaps. */
function Minutes({ one, from, to }) {
  const x = (at) => (WIDE * (seconds(at) - from)) / Math.max(60, to - from);
  const width = WIDE * 60 / Math.max(60, to - from);
  const peak = Math.max(1, ...one.minutes.map((minute) => minute.memory_used_bytes ?? 0));
  const known = one.minutes.filter((minute) => minute.utilization !== null);
  const mean = known.length ? known.reduce((sum, minute) => sum + minute.utilization, 0) / known.length : null;
  const label = `GPU ${one.index}: ${mean === null ? "its load is not known" : `mean load ${percent(mean)} over ${known.length} min`}`;
  const line = one.minutes.filter((minute) => minute.memory_used_bytes !== null)
    .map((minute) => `${(x(minute.at) + width / 2).toFixed(1)},${(HIGH - 1 - (HIGH - 4) * minute.memory_used_bytes / peak).toFixed(1)}`).join(" ");
  return html`<svg class="use" viewBox=${`0 0 ${WIDE} ${HIGH}`} preserveAspectRatio="none" role="img" aria-label=${label}><title>${label}</title>
    <line x1="0" x2=${WIDE} y1=${HIGH - 0.5} y2=${HIGH - 0.5} class="grid"></line>
    ${known.map((minute) => html`<rect key=${minute.at} class="load" x=${x(minute.at)} width=${Math.max(1, width - 0.5)} y=${HIGH - HIGH * minute.utilization} height=${HIGH * minute.utilization}><title>${clock(minute.at)}: ${percent(minute.utilization)}</title></rect>`)}
    ${line ? html`<polyline points=${line} class="memory"></polyline>` : null}</svg>`;
}

function Device({ one, from, to }) {
  // sums are written once a minute; until then the minutes themselves tell
  const top = (name) => one.minutes.reduce((most, minute) => (minute[name] === null ? most : Math.max(most ?? 0, minute[name])), null);
  const load = one.max_utilization ?? top("utilization"), memory = one.max_memory_bytes ?? top("memory_used_bytes");
  const idle = one.sampled_s ? one.idle_s / one.sampled_s : null;
  return html`<article class="gpu-use"><h4>GPU ${one.index} <span class="quiet">attempt ${one.attempt}</span></h4>
    ${one.minutes.length ? html`<${Minutes} one=${one} from=${from} to=${to} />` : null}
    <p class="facts quiet">
      ${load === null ? html`<span>load not known</span>` : html`<span>at most ${percent(load)} load</span>`}
      ${memory === null ? null : html`<span>at most ${bytes(memory)} in use</span>`}
      ${idle === null ? null : html`<span class=${idle > 0.5 ? "warn" : ""}>idle for ${duration(one.idle_s)} (${percent(idle)})</span>`}
      ${one.first_use_at ? html`<span>first loaded ${clock(one.first_use_at)}</span>` : null}
      ${one.energy_kwh === null ? null : html`<span>${one.energy_kwh < 0.1 ? `${(1000 * one.energy_kwh).toFixed(1)} Wh` : `${one.energy_kwh.toFixed(2)} kWh`}</span>`}
    </p></article>`;
}

/** The newest attempt's devices; earlier attempts on demand. */
export function GpuUse({ job, tick }) {
  const [found, setFound] = useState([]);
  const [all, setAll] = useState(false);
  const slot = Math.floor(tick / 4);
  useEffect(() => {
    let gone = false;
    if (!job.attempt || !job.gpus) return undefined;
    get(`/v1/jobs/${job.id}/gpus`).then((answer) => { if (!gone) setFound(answer); }).catch(() => {});
    return () => { gone = true; };
  }, [job.id, job.attempt, job.state, slot]);
  if (!found.length) return null;
  const newest = Math.max(...found.map((one) => one.attempt));
  const shown = all ? found : found.filter((one) => one.attempt === newest);
  const spans = new Map((job.attempts ?? []).map((one) => [one.number, [seconds(one.claimed_at), one.ended_at ? seconds(one.ended_at) : Date.now() / 1000]]));
  return html`<section aria-labelledby="h-use"><h3 id="h-use">GPU use</h3>
    <div class="uses">${shown.map((one) => {
      const [from, to] = spans.get(one.attempt) ?? [0, 0];
      return html`<${Device} key=${`${one.attempt}-${one.uuid}`} one=${one} from=${from - (from % 60)} to=${to} />`;
    })}</div>
    ${found.length > shown.length || all ? html`<button type="button" onClick=${() => setAll(!all)}>${all ? "newest attempt only" : "all attempts"}</button>` : null}</section>`;
}
