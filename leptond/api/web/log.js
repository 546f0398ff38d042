// A job's output as it comes: colours, search, follow. Only the lines in view are in the document.

import { html, useEffect, useMemo, useRef, useState } from "/web/vendor/htm-preact.js";
import { download, follow } from "/web/api.js";
import { Terminal, plain } from "/web/ansi.js";

const LINE = 18, VIEW = 420, SPARE = 20;

function Line({ line, found }) {
  if (!found) return html`<div class="line">${line.map((piece, i) => html`<span key=${i} class=${piece.cls}>${piece.text}</span>`)}</div>`;
  const text = plain(line), parts = [];
  let at = 0;
  for (let hit = text.toLowerCase().indexOf(found); hit >= 0; hit = text.toLowerCase().indexOf(found, at)) {
    parts.push(text.slice(at, hit), html`<mark>${text.slice(hit, hit + found.length)}</mark>`);
    at = hit + found.length;
  }
  return html`<div class="line">${parts}${text.slice(at)}</div>`;
}

export function Log({ job }) {
  const terminal = useRef(null);
  const box = useRef(null);
  const [version, setVersion] = useState(0);
  const [top, setTop] = useState(0);
  const [following, setFollowing] = useState(true);
  const [connection, setConnection] = useState("connecting");
  const [search, setSearch] = useState("");
  const [hit, setHit] = useState(0);
  const [attempt, setAttempt] = useState(null);
  const started = job.attempt > 0;

  useEffect(() => {
    if (!started) return undefined;
    terminal.current = new Terminal();
    let frame = null, got = false;
    const draw = () => { if (frame === null) frame = requestAnimationFrame(() => { frame = null; setVersion((v) => v + 1); }); };
    const path = `/v1/jobs/${job.id}/log/stream?${attempt === null ? "tail=5000" : `attempt=${attempt}`}`;
    const stop = follow(path, {
      onState: (state) => setConnection((now) => (now === "ended" ? now : state)),
      onEvent: ({ event, data }) => {
        if (event === "log.chunk") { terminal.current.write(data.text); got = true; draw(); }
        else if (event === "log.attempt") { if (got || data.number > 1) terminal.current.note(`── attempt ${data.number} ──`); draw(); }
        else if (event === "log.removed") { terminal.current.note("[the output was removed]"); draw(); }
        else if (event === "log.gap") { terminal.current.note(`[${data.dropped_bytes} bytes of output were not kept]`); draw(); }
        else if (event === "end") { setConnection("ended"); draw(); return false; }
        return true;
      },
    });
    return () => { stop(); if (frame !== null) cancelAnimationFrame(frame); };
  }, [job.id, started, attempt]);

  const lines = terminal.current?.lines ?? [];
  const wanted = search.toLowerCase();
  const hits = useMemo(
    () => (wanted ? lines.flatMap((line, i) => (plain(line).toLowerCase().includes(wanted) ? [i] : [])) : []),
    [wanted, version],
  );
  useEffect(() => {
    if (following && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [version, following]);
  const show = (number) => {
    if (!hits.length) return;
    const index = (number + hits.length) % hits.length;
    setHit(index);
    setFollowing(false);
    box.current.scrollTop = Math.max(0, hits[index] * LINE - VIEW / 2);
  };
  const first = Math.max(0, Math.floor(top / LINE) - SPARE);
  const last = Math.min(lines.length, Math.ceil((top + VIEW) / LINE) + SPARE);
  const scrolled = (event) => {
    const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
    setTop(scrollTop);
    setFollowing(scrollHeight - scrollTop - clientHeight < LINE * 2);
  };
  if (!started) return html`<p class="empty">It has not started, so it has printed nothing.</p>`;
  const words = { live: "following", ended: "complete", stale: "connection lost, trying again", connecting: "connecting" }[connection];
  return html`<div class="log">
    <div class="tools">
      <label>Search <input type="search" value=${search} onInput=${(event) => { setSearch(event.currentTarget.value); setHit(0); }}
        onKeyDown=${(event) => { if (event.key === "Enter") show(event.shiftKey ? hit - 1 : wanted && hits.length ? hit + (event.currentTarget.dataset.asked === search ? 1 : 0) : 0); event.currentTarget.dataset.asked = search; }} /></label>
      ${wanted ? html`<span class="quiet">${hits.length ? `${hit + 1} of ${hits.length}` : "not found"}</span>
        <button type="button" onClick=${() => show(hit - 1)} aria-label="previous match">↑</button><button type="button" onClick=${() => show(hit + 1)} aria-label="next match">↓</button>` : null}
      <label><input type="checkbox" checked=${following} onChange=${(event) => setFollowing(event.currentTarget.checked)} /> follow</label>
      ${(job.attempts?.length ?? 0) > 1 ? html`<label>Attempt <select value=${attempt ?? ""} onChange=${(event) => setAttempt(event.currentTarget.value ? Number(event.currentTarget.value) : null)}>
        <option value="">newest, on through retries</option>${job.attempts.map((one) => html`<option key=${one.number} value=${one.number}>${one.number}</option>`)}</select></label>` : null}
      <button type="button" onClick=${() => download(`/v1/jobs/${job.id}/log${attempt === null ? "" : `?attempt=${attempt}`}`, `job-${job.ref}.log`)}>download</button>
      <span class=${`quiet conn-${connection}`} role="status">${words}</span>
    </div>
    <div class="lines" ref=${box} tabindex="0" role="log" aria-label="Output of the job" onScroll=${scrolled}>
      <svg width="1" height=${first * LINE} aria-hidden="true"></svg>
      ${lines.slice(first, last).map((line, i) => html`<${Line} key=${first + i} line=${line} found=${wanted} />`)}
      <svg width="1" height=${Math.max(0, (lines.length - last) * LINE)} aria-hidden="true"></svg>
    </div>
  </div>`;
}
