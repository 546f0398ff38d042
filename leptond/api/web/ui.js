// Small pieces that every view uses.

import { html, useEffect, useRef, useState } from "/web/vendor/htm-preact.js";
import { STATES } from "/web/format.js";

export const State = ({ state }) => html`<span class=${`state s-${state}`}>${STATES[state] ?? state}</span>`;

/** A button that asks once more, in place, before something that cannot be undone. */
export function Sure({ label, ask, act, kind = "" }) {
  const [armed, setArmed] = useState(false);
  useEffect(() => {
    if (!armed) return undefined;
    const timer = setTimeout(() => setArmed(false), 4000);
    return () => clearTimeout(timer);
  }, [armed]);
  const press = (event) => {
    event.stopPropagation();
    if (armed) { setArmed(false); act(); } else setArmed(true);
  };
  return html`<button type="button" class=${`${kind} ${armed ? "armed" : ""}`} onClick=${press}>${armed ? ask : label}</button>`;
}

/** Runs an action and says how it went, politely. */
export function useAction() {
  const [note, setNote] = useState(null);
  const run = async (work, done) => {
    try {
      const result = await work();
      setNote({ good: true, text: typeof done === "function" ? done(result) : done });
      return result;
    } catch (error) {
      setNote({ good: false, text: error.hint ? `${error.message}. ${error.hint}` : error.message });
      return null;
    }
  };
  const view = html`<p class=${`note ${note && !note.good ? "bad" : ""}`} role="status" aria-live="polite">${note?.text ?? ""}</p>`;
  return [run, view, note];
}

/** The width of an element, followed. */
export function useWidth() {
  const ref = useRef(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    if (!ref.current) return undefined;
    const watch = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    watch.observe(ref.current);
    return () => watch.disconnect();
  }, []);
  return [ref, width];
}

/** Copies a text and says so. */
export function Copy({ text, label }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try { await navigator.clipboard.writeText(text); } catch { return; }
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return html`<button type="button" onClick=${copy}>${copied ? "copied" : label}</button>`;
}
