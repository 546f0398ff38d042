// Where the GPU time went, what it cost, and what would save most.

import { html, useEffect, useState } from "/web/vendor/htm-preact.js";
import { get, save } from "/web/api.js";
import { duration, percent } from "/web/format.js";

const WINDOWS = [["day", 86400], ["week", 7 * 86400], ["month", 30 * 86400]];
const GROUPS = ["user", "project", "queue", "job", "gpu"];

const WORDS = {
  PROD: ["productive", "work that is kept"],
  START: ["starting", "from the spawn to the first progress"],
  LOST: ["lost", "done twice after a preemption, a failure or a restart"],
  FAILED: ["failed", "of jobs that failed or timed out"],
  CANCEL: ["cancelled", "of jobs that were cancelled by hand"],
  STOP: ["stopping", "from the stop signal to the release"],
  GAP: ["hand-over", "from a release to the next spawn"],
  FITIDLE: ["kept free", "free while a job that fits waits: a reservation"],
  FRAG: ["does not fit", "free while what waits needs more GPUs at once"],
  EMPTY: ["no demand", "free, and nothing waits"],
  OUT: ["out of service", "drained or unhealthy"],
};
const nameOf = (box) => WORDS[String(box).toUpperCase()] ?? [String(box), ""];
const hours = (seconds) => (seconds / 3600).toLocaleString([], { maximumFractionDigits: seconds < 360000 ? 2 : 0 });

function money(value, currency) {
  if (value === null || value === undefined) return "–";
  try { return value.toLocaleString([], { style: "currency", currency, currencyDisplay: "narrowSymbol" }); } catch { return `${value.toFixed(2)} ${currency}`; }
}

function Stack({ boxes }) {
  const shown = boxes.filter((one) => one.gpu_seconds > 0);
  let at = 0;
  const label = shown.map((one) => `${nameOf(one.box)[0]} ${percent(one.share)}`).join(", ");
  return html`<svg class="stack" viewBox="0 0 1000 30" preserveAspectRatio="none" role="img" aria-label=${label}>
    ${shown.map((one) => {
      const left = at;
      at += 1000 * one.share;
      return html`<rect key=${one.box} class=${`b-${String(one.box).toLowerCase()}`} x=${left} width=${Math.max(0, at - left)} height="30"><title>${nameOf(one.box)[0]}: ${hours(one.gpu_seconds)} GPU-h</title></rect>`;
    })}</svg>`;
}

function Boxes({ answer }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="GPU time by use"><table><thead><tr><th>What</th><th class="num">GPU-h</th><th class="num">Share</th><th class="num">Cost</th><th>Why</th></tr></thead><tbody>
    ${answer.boxes.map((one) => html`<tr key=${one.box}><td><span class=${`swatch b-${String(one.box).toLowerCase()}`}></span> ${nameOf(one.box)[0]}</td><td class="num">${hours(one.gpu_seconds)}</td><td class="num">${(100 * one.share).toFixed(1)}%</td><td class="num">${money(one.cost, answer.currency)}</td>
      <td class="words">${nameOf(one.box)[1]}${one.causes.length ? html`<small class="quiet"> ${one.causes.map((cause) => `${cause.cause} ${hours(cause.gpu_seconds)} GPU-h`).join(", ")}</small>` : null}</td></tr>`)}
  </tbody></table></div>`;
}

function Figures({ answer }) {
  const { memos, hand_over: gap, energy } = answer;
  const figure = (name, value, more) => html`<div key=${name}><dt>${name}</dt><dd>${value}${more ? html` <small class="quiet">${more}</small>` : null}</dd></div>`;
  return html`<dl class="facts-list">
    ${figure("goodput", percent(answer.goodput), "productive, of what there was demand for")}
    ${figure("scheduling goodput", percent(answer.scheduling_goodput))}${figure("run-time goodput", percent(answer.runtime_goodput))}
    ${answer.paid === null ? null : figure("paid", money(answer.paid, answer.currency))}
    ${answer.cost_per_useful_gpu_hour === null ? null : figure("a useful GPU-hour costs", money(answer.cost_per_useful_gpu_hour, answer.currency))}
    ${figure("held but idle", `${hours(memos.idle_gpu_seconds)} GPU-h`, memos.idle_ratio === null ? "not sampled" : percent(memos.idle_ratio))}
    ${figure("hand-over", gap.p50_s === null ? "–" : duration(gap.p50_s), gap.p99_s === null ? "" : `p99 ${duration(gap.p99_s)}, ${gap.starts} starts`)}
    ${memos.retries_saved ? figure("retries not made", memos.retries_saved, `${hours(memos.retries_saved_gpu_seconds)} GPU-h saved`) : null}
    ${energy ? figure("energy", `${energy.kwh.toFixed(2)} kWh`, `${energy.idle_kwh.toFixed(2)} idle; ${energy.sources.join(", ")}`) : null}
  </dl>`;
}

const COLUMNS = ["key", "jobs", "gpu_seconds", "productive_gpu_seconds", "wasted_gpu_seconds", "idle_gpu_seconds", "kwh", "cost"];

/** The groups as CSV; a text that a spreadsheet would take for a formula gets a quote before it. */
function asCsv(answer) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const rows = answer.groups.map((one) => [answer.since, answer.until, ...COLUMNS.map((name) => one[name]), answer.currency]);
  return [["since", "until", ...COLUMNS, "currency"], ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

export function Usage({ tick }) {
  const [span, setSpan] = useState(7 * 86400);
  const [group, setGroup] = useState("user");
  const [answer, setAnswer] = useState(null);
  const slot = Math.floor(tick / 15);
  useEffect(() => {
    let gone = false;
    const since = new Date(Date.now() - span * 1000).toISOString();
    get(`/v1/usage?group_by=${group}&since=${encodeURIComponent(since)}`).then((found) => { if (!gone) setAnswer(found); }).catch(() => {});
    return () => { gone = true; };
  }, [slot, span, group]);
  return html`<section aria-labelledby="h-usage"><h2 id="h-usage">Usage</h2>
    <p class="tools">${WINDOWS.map(([name, size]) => html`<button key=${name} type="button" aria-pressed=${span === size ? "true" : "false"} class=${span === size ? "primary" : ""} onClick=${() => setSpan(size)}>${name}</button>`)}</p>
    ${answer === null ? html`<p class="empty">Adding up…</p>` : html`
      <${Stack} boxes=${answer.boxes} />
      <${Figures} answer=${answer} />
      ${answer.advice.length ? html`<h3>What would save</h3><ul>${answer.advice.map((one) => html`<li key=${one.sentence}>${one.sentence}${one.cost === null ? "" : ` (${money(one.cost, answer.currency)})`}</li>`)}</ul>` : null}
      <${Boxes} answer=${answer} />
      <h3>By <select aria-label="group by" value=${group} onChange=${(event) => setGroup(event.currentTarget.value)}>${GROUPS.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select> ${answer.groups.length ? html`<button type="button" onClick=${() => save(asCsv(answer), `usage-by-${group}.csv`)}>download CSV</button>` : null}</h3>
      ${answer.groups.length ? html`<div class="scroll" tabindex="0" role="region" aria-label=${`Use by ${group}`}><table><thead><tr><th>${group}</th><th class="num">Jobs</th><th class="num">GPU-h</th><th class="num">Productive</th><th class="num">Wasted</th><th class="num">Idle</th><th class="num">kWh</th><th class="num">Cost</th></tr></thead><tbody>
        ${answer.groups.map((one) => html`<tr key=${one.key}><td>${one.key}</td><td class="num">${one.jobs}</td><td class="num">${hours(one.gpu_seconds)}</td><td class="num">${hours(one.productive_gpu_seconds)}</td><td class="num">${hours(one.wasted_gpu_seconds)}</td><td class="num">${hours(one.idle_gpu_seconds)}</td><td class="num">${one.kwh === null ? "–" : one.kwh.toFixed(2)}</td><td class="num">${money(one.cost, answer.currency)}</td></tr>`)}
      </tbody></table></div>` : html`<p class="empty">Nobody held a GPU in this time.</p>`}
      ${answer.prices.length ? html`<p class="quiet">Prices: ${answer.prices.map((one) => `${one.gpus} × ${one.model} ${one.per_gpu_hour === null ? "no price" : `${money(one.per_gpu_hour, one.currency ?? answer.currency)} a GPU-hour (${one.source}, ${one.as_of})`}`).join("; ")}</p>` : null}`}
  </section>`;
}
