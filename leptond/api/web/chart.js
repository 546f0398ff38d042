// The loss and the learning rate over all attempts, with marks where checkpoints, tunings and retries were.

import { html, useEffect, useRef } from "/web/vendor/htm-preact.js";
import { figure } from "/web/format.js";
import { useWidth } from "/web/ui.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** `points`: [{step, loss, lr, ...}] in order; `marks`: [{step, kind, label}]. */
export function Curve({ points, marks }) {
  const [ref, width] = useWidth();
  const holder = useRef(null);
  const names = ["loss", "lr"].filter((name) => points.some((one) => typeof one[name] === "number"));
  useEffect(() => {
    if (!holder.current || width < 60 || !names.length) return undefined;
    const steps = points.map((one) => one.step);
    const series = names.map((name) => points.map((one) => (typeof one[name] === "number" ? one[name] : null)));
    const axis = { stroke: css("--quiet"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line") }, font: "11px system-ui" };
    const drawMarks = (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      for (const mark of marks) {
        const x = Math.round(plot.valToPos(mark.step, "x", true));
        if (x < bbox.left || x > bbox.left + bbox.width) continue;
        ctx.strokeStyle = css({ checkpoint: "--good", tune: "--accent", retry: "--bad" }[mark.kind] ?? "--quiet");
        ctx.setLineDash(mark.kind === "retry" ? [] : [4, 4]);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
      }
      ctx.restore();
    };
    const plot = new window.uPlot({
      width, height: 240, scales: { x: { time: false }, lr: { auto: true } }, legend: { live: true },
      axes: [{ ...axis, label: "step", labelFont: "11px system-ui", labelSize: 16 }, { ...axis, scale: "y", size: 60, values: (_, all) => all.map(figure) },
        ...(names.includes("lr") ? [{ ...axis, scale: "lr", side: 1, size: 70, grid: { show: false }, values: (_, all) => all.map(figure) }] : [])],
      series: [{ label: "step" }, ...names.map((name) => ({
        label: name, scale: name === "lr" ? "lr" : "y", stroke: css(name === "lr" ? "--second" : "--accent"), width: 1.6,
        points: { show: points.length < 40 }, spanGaps: true, value: (_, value) => figure(value),
      }))],
      hooks: { draw: [drawMarks] },
    }, [steps, ...series], holder.current);
    return () => plot.destroy();
  }, [points, marks, width]);
  const last = points[points.length - 1];
  const label = last ? `curve of ${names.join(" and ")} over ${points.length} points, last at step ${last.step}${typeof last.loss === "number" ? `: loss ${figure(last.loss)}` : ""}` : "no points";
  return html`<div class="curve" ref=${ref} role="img" aria-label=${label}><div ref=${holder}></div></div>`;
}
