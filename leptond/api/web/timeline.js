// Who had which GPU when, and who will: a lane a device, the planned future hatched.

import { html, useEffect, useMemo, useRef, useState } from "/web/vendor/htm-preact.js";
import { get } from "/web/api.js";
import { clock, duration, seconds } from "/web/format.js";
import { useWidth } from "/web/ui.js";

const LANE = 22, TOP = 18, LEFT = 34;
const PAST_S = 6 * 3600, FUTURE_S = 3600;

const fate = (bar) => (bar.ended_at === null ? "running" : bar.class === "ok" ? "succeeded"
  : ["cancelled", "stopped-early", "preempted"].includes(bar.class) ? "cancelled" : bar.class === "timeout" ? "timed_out" : "failed");

function ticks(from, to, width) {
  const steps = [60, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
  const step = steps.find((s) => ((to - from) / s) * 70 < width) ?? 86400;
  const shift = new Date(from * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((from - shift) / step) * step + shift; at <= to; at += step) found.push(at);
  return found;
}

/** Bars of one lane; those too thin to see are drawn as one. */
function merged(bars, x) {
  const shown = [];
  for (const bar of bars) {
    const left = x(bar.from), right = Math.max(left + 1.5, x(bar.to));
    const last = shown[shown.length - 1];
    if (last && right - left < 3 && left - last.right < 1 && last.fate === bar.fate) {
      last.right = right;
      last.count += 1;
    } else shown.push({ ...bar, left, right, count: 1 });
  }
  return shown;
}

export function Timeline({ status, tick }) {
  const [ref, width] = useWidth();
  const [span, setSpan] = useState(null);  // [from, to] after a zoom; null: the last six hours and the plan
  const [bars, setBars] = useState([]);
  const [planned, setPlanned] = useState([]);
  const [drag, setDrag] = useState(null);
  const svg = useRef(null);
  const looked = useRef(false);
  const now = Date.now() / 1000;
  const future = planned.length ? Math.min(24 * 3600, Math.max(FUTURE_S, ...planned.map((one) => one.to - now))) : FUTURE_S;
  // a young daemon's first minutes fill the picture rather than a sliver of six hours
  const oldest = bars.length ? Math.min(...bars.map((one) => seconds(one.claimed_at))) : now;
  const past = Math.min(PAST_S, Math.max(600, 1.15 * (now - oldest)));
  // what is planned gets as much room as what was, and half an hour at least; zooming out shows the rest
  const [from, to] = span ?? [now - past, now + (planned.length ? Math.min(future, Math.max(1800, past)) : past / 3)];
  const slot = Math.floor(now / 30);

  useEffect(() => {
    let gone = false;
    // who looks at the future alone still needs a past to ask for
    const since = new Date(Math.min(span ? span[0] : now - PAST_S, now - 60) * 1000).toISOString();
    get(`/v1/timeline?since=${encodeURIComponent(since)}`).then((answer) => {
      if (!gone) setBars(answer.items);
    }).catch(() => {});
    return () => { gone = true; };
  }, [tick, slot, span]);

  useEffect(() => {
    let gone = false;
    // a plan costs more than a look at the queue, which is to be seen first
    const timer = setTimeout(() => get("/v1/plan?limit=200").then((answer) => {
      if (!gone) setPlanned(answer.items.map((one) => ({ ...one, from: seconds(one.starts_at), to: seconds(one.ends_at) })));
    }).catch(() => {}), looked.current ? 0 : 800);
    looked.current = true;
    return () => { gone = true; clearTimeout(timer); };
  }, [Math.floor(now / 5)]);

  const lanes = status.gpus.map((gpu) => gpu.index);
  const inner = Math.max(50, width - LEFT - 4);
  const x = (at) => LEFT + ((at - from) / (to - from)) * inner;
  const height = TOP + lanes.length * LANE + 4;

  const byLane = useMemo(() => {
    const found = new Map(lanes.map((index) => [index, []]));
    for (const bar of [...bars].reverse()) {
      const one = { bar, fate: fate(bar), from: seconds(bar.claimed_at), to: bar.ended_at === null ? now : seconds(bar.ended_at) };
      if (one.to < from || one.from > to) continue;
      for (const index of bar.gpu_indices) found.get(index)?.push(one);
    }
    for (const list of found.values()) list.sort((a, b) => a.from - b.from);
    return found;
  }, [bars, from, to, lanes.length, tick]);

  if (!lanes.length) return null;
  const atPointer = (event) => {
    const box = svg.current.getBoundingClientRect();
    return from + ((event.clientX - box.left - LEFT) / inner) * (to - from);
  };
  const zoom = (factor, center = (from + to) / 2) => {
    const next = [center - (center - from) * factor, center + (to - center) * factor];
    if (next[1] - next[0] > 60 && next[1] - next[0] < 30 * 86400) setSpan(next);
  };
  const pan = (share) => setSpan([from + share * (to - from), to + share * (to - from)]);
  const keys = (event) => {
    const act = { "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1.6), ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), "0": () => setSpan(null) }[event.key];
    if (act) { event.preventDefault(); act(); }
  };
  const release = () => {
    if (drag && Math.abs(x(drag.to) - x(drag.from)) > 8) setSpan([Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)]);
    setDrag(null);
  };
  const y = (index) => TOP + lanes.indexOf(index) * LANE;
  const clip = (left, right) => [Math.max(LEFT, left), Math.min(LEFT + inner, right)];

  return html`<div class="timeline" ref=${ref}>
    <div class="tools"><span class="quiet">${clock(new Date(from * 1000))} to ${clock(new Date(to * 1000))}</span>
      <button type="button" aria-label="zoom in" onClick=${() => zoom(0.6)}>+</button>
      <button type="button" aria-label="zoom out" onClick=${() => zoom(1.6)}>−</button>
      <button type="button" aria-label="earlier" onClick=${() => pan(-0.3)}>‹</button>
      <button type="button" aria-label="later" onClick=${() => pan(0.3)}>›</button>
      ${span ? html`<button type="button" onClick=${() => setSpan(null)}>now</button>` : null}</div>
    ${width > 0 ? html`<svg ref=${svg} width=${width} height=${height} tabindex="0" role="group"
        aria-label="Timeline of the GPUs. Plus and minus zoom, the arrow keys move, 0 goes back to now."
        onKeyDown=${keys}
        onPointerDown=${(event) => { if (event.button === 0 && !event.target.closest("a")) setDrag({ from: atPointer(event), to: atPointer(event) }); }}
        onPointerMove=${(event) => { if (drag) setDrag({ ...drag, to: atPointer(event) }); }}
        onPointerUp=${release} onPointerLeave=${release}>
      <defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="2.5" height="6" class="hatch"></rect></pattern></defs>
      ${ticks(from, to, inner).map((at) => html`<g key=${at}><line x1=${x(at)} x2=${x(at)} y1=${TOP} y2=${height} class="grid"></line>
        <text x=${x(at)} y="12" text-anchor="middle" class="axis">${clock(new Date(at * 1000))}</text></g>`)}
      ${lanes.map((index) => html`<text key=${`l${index}`} x="4" y=${y(index) + 15} class="axis">${index}</text>`)}
      ${lanes.flatMap((index) => merged(byLane.get(index) ?? [], x).map((one) => {
        const [left, right] = clip(one.left, one.right);
        if (right <= left) return null;
        const { bar } = one;
        const words = one.count > 1 ? `${one.count} short jobs` : `${bar.ref} ${bar.name} (${bar.user}), attempt ${bar.attempt}: ${duration(one.to - one.from)}${bar.class ? `, ${bar.class}` : ""}`;
        return html`<a key=${`${index}-${bar.job_id}-${bar.attempt}`} href=${`#/jobs/${bar.job_id}`} aria-label=${`GPU ${index}: ${words}`}>
          <rect x=${left} y=${y(index) + 2} width=${right - left} height=${LANE - 4} rx="3" class=${`f-${one.fate}`}><title>${words}</title></rect>
          ${right - left > 44 ? html`<text x=${left + 5} y=${y(index) + 15} class="inbar">${bar.name.slice(0, Math.floor((right - left - 8) / 7))}</text>` : null}</a>`;
      }))}
      ${planned.flatMap((one) => one.gpu_indices.map((index) => {
        const [left, right] = clip(x(one.from), x(one.to));
        if (right <= left) return null;
        const words = `planned: ${one.ref ?? one.id} ${one.name ?? ""} ${clock(one.starts_at)}`;
        return html`<a key=${`p${index}-${one.id}`} href=${`#/jobs/${one.id}`} aria-label=${`GPU ${index}: ${words}`}><rect x=${left} y=${y(index) + 2} width=${right - left} height=${LANE - 4} rx="3" class="planned" fill="url(#hatch)"><title>${words}</title></rect></a>`;
      }))}
      ${now >= from && now <= to ? html`<line x1=${x(now)} x2=${x(now)} y1=${TOP - 4} y2=${height} class="now"></line>` : null}
      ${drag ? html`<rect x=${Math.min(x(drag.from), x(drag.to))} y=${TOP} width=${Math.abs(x(drag.to) - x(drag.from))} height=${height - TOP} class="select"></rect>` : null}
    </svg>` : null}
  </div>`;
}
