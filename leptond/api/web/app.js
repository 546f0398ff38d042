// The page: header, views by address, login, keys.

import { html, render, useEffect, useState } from "/web/vendor/htm-preact.js";
import { loadSession, signIn, signOut } from "/web/api.js";
import { duration } from "/web/format.js";
import { Gpus } from "/web/gpus.js";
import { Job } from "/web/job.js";
import { Live } from "/web/live.js";
import { History, Queue, prefetchQueue } from "/web/queue.js";
import { Submit } from "/web/submit.js";
import { Timeline } from "/web/timeline.js";
import { useAction } from "/web/ui.js";
import { Usage } from "/web/usage.js";

loadSession();
addEventListener("hashchange", () => { if (loadSession()) live.start(); });
if (/^#?\/?$/.test(location.hash)) prefetchQueue();
const live = new Live();

function useLive() {
  const [state, setState] = useState(live.state);
  useEffect(() => live.subscribe(setState), []);
  return state;
}

function useRoute() {
  const read = () => location.hash.replace(/^#\/?/, "") || "";
  const [route, setRoute] = useState(read());
  useEffect(() => {
    const changed = () => { setRoute(read()); window.scrollTo(0, 0); };
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

const THEMES = ["auto", "light", "dark"];

function useTheme() {
  const [theme, setTheme] = useState(localStorage.getItem("leptond.theme") ?? "auto");
  useEffect(() => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    localStorage.setItem("leptond.theme", theme);
  }, [theme]);
  return [theme, () => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length])];
}

function Dot({ connection, since }) {
  const [, redraw] = useState(0);
  useEffect(() => { const timer = setInterval(() => redraw((n) => n + 1), 1000); return () => clearInterval(timer); }, []);
  const age = (Date.now() - since) / 1000;
  // a blink of the connection is not worth a word
  const stale = connection === "stale" || (connection === "connecting" && age > 3);
  return html`<span class=${`dot ${connection === "live" ? "live" : stale ? "stale" : ""}`} role="status">${connection === "live" ? "live" : stale ? `stale for ${duration(age)}` : "connecting"}</span>`;
}

const VIEWS = [["", "Queue"], ["history", "History"], ["usage", "Usage"], ["submit", "Submit"]];

function Header({ state, route, theme, nextTheme }) {
  const { status, me } = state;
  const busy = status ? status.gpus.filter((gpu) => gpu.job_id !== null).length : 0;
  const counts = status?.counts ?? {};
  return html`<header class="top">
    <h1><a href="#/">leptond</a></h1>
    <nav aria-label="Views">${VIEWS.filter(([path]) => path !== "submit" || !me?.read_only).map(([path, label]) => html`<a key=${path} href=${`#/${path}`} aria-current=${route === path ? "page" : undefined}>${label}</a>`)}</nav>
    ${status ? html`<ul class="sums" aria-label="Summary">
      <li><b>${(counts.running ?? 0) + (counts.starting ?? 0) + (counts.stopping ?? 0)}</b> running</li>
      <li><b>${counts.pending ?? 0}</b> pending</li>
      <li><b>${busy}/${status.gpus.length}</b> GPUs busy</li>
      <li class=${status.failed_today ? "bad" : ""} title="since midnight where the daemon runs"><b>${status.failed_today}</b> failed today</li>
      ${status.oldest_wait_s ? html`<li>longest wait <b>${duration(status.oldest_wait_s)}</b></li>` : null}
    </ul>` : null}
    <span class="end"><${Dot} connection=${state.connection} since=${state.since} />
      ${me?.read_only ? html`<span class="pill">read-only</span>` : null}
      ${me?.via === "session" ? html`<button type="button" title=${`signed in as ${me.user} (${me.role})`} onClick=${async () => { await signOut(); live.start(); }}>sign out</button>` : null}
      <button type="button" onClick=${nextTheme} aria-label=${`colours: ${theme}; change`}>${{ auto: "◐", light: "☀", dark: "☾" }[theme]}</button></span>
  </header>`;
}

function Login({ problem }) {
  const [text, setText] = useState("");
  const [refused, setRefused] = useState(null);
  const go = async (event) => {
    event.preventDefault();
    try { await signIn({ token: text.trim() }); setRefused(null); } catch (error) { setRefused(error); return; }
    live.start();
  };
  return html`<main><section class="login" aria-labelledby="h-login"><h1 id="h-login">leptond</h1>
    <p>Sign in: <code>leptonctl dashboard</code> on the machine makes a link that is good once. A token does as well (<code>leptonctl token new</code>).</p>
    <form onSubmit=${go}><label>Token <input type="password" autocomplete="current-password" value=${text} onInput=${(event) => setText(event.currentTarget.value)} /></label><button type="submit" class="primary" disabled=${!text}>open</button></form>
    ${refused || problem?.hint ? html`<p class="quiet">${(refused ?? problem)?.message ?? ""}</p>` : null}</section></main>`;
}

function Overview({ state, canAct, run, note }) {
  const { status, tick } = state;
  return html`
    ${status.warnings.length ? html`<ul class="warnings">${status.warnings.map((text) => html`<li key=${text}>${text}</li>`)}</ul>` : null}
    ${status.notes.length ? html`<details class="notes quiet"><summary>${status.notes.length} ${status.notes.length === 1 ? "thing" : "things"} to know of this installation</summary><ul>${status.notes.map((text) => html`<li key=${text}>${text}</li>`)}</ul></details>` : null}
    <section aria-labelledby="h-gpus"><h2 id="h-gpus">GPUs</h2><${Gpus} status=${status} tick=${tick} canAct=${canAct && (state.me?.admin || state.me?.role === "operator")} run=${run} /></section>
    ${status.gpus.length ? html`<section aria-labelledby="h-time"><h2 id="h-time">Timeline</h2><${Timeline} status=${status} tick=${tick} /></section>` : null}
    <section aria-labelledby="h-queue"><h2 id="h-queue">Queue</h2>${note}<${Queue} tick=${tick} counts=${status.counts} canAct=${canAct} me=${state.me} run=${run} /></section>`;
}

function App() {
  const state = useLive();
  const route = useRoute();
  const [theme, nextTheme] = useTheme();
  const [run, note] = useAction();
  useEffect(() => { live.start(); return () => live.stop(); }, []);
  useEffect(() => {
    const keys = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
      const target = { q: "#/", h: "#/history", u: "#/usage", n: "#/submit" }[event.key];
      if (target) location.hash = target;
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);
  useEffect(() => {
    const status = state.status;
    document.title = status ? `${status.counts.running ?? 0} running, ${status.counts.pending ?? 0} pending · leptond` : "leptond";
  }, [state.status]);

  if (state.problem?.status === 401) return html`<${Login} problem=${state.problem} />`;
  const canAct = Boolean(state.me && !state.me.read_only);
  const acted = async (work, done) => { const result = await run(work, done); live.soon(); return result; };
  const job = /^jobs\/([0-9_]+)$/.exec(route);
  const body = !state.status
    ? html`<p class="empty">${state.connection === "stale" ? "The daemon does not answer. Trying again…" : "Loading…"}</p>`
    : job ? html`${note}<${Job} key=${job[1]} id=${job[1]} tick=${state.tick} canAct=${canAct} run=${acted} />`
      : route === "history" ? html`<${History} tick=${state.tick} />`
        : route === "usage" ? html`<${Usage} tick=${state.tick} />`
          : route === "submit" && canAct ? html`<${Submit} run=${acted} note=${note} />`
            : html`<${Overview} state=${state} canAct=${canAct} run=${acted} note=${note} />`;
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>to the content</a>
    <${Header} state=${state} route=${route} theme=${theme} nextTheme=${nextTheme} />
    <main id="main" tabindex="-1" class=${state.connection === "stale" ? "is-stale" : ""}>${body}</main>
    <footer class="quiet">${state.status ? `leptond ${state.status.version}, ${state.status.mode} mode` : ""} · keys: q queue, h history, u usage, n new job</footer>`;
}

const root = document.getElementById("app");
root.textContent = "";
render(html`<${App} />`, root);
