// Series over time, by uPlot. Colours come from the style sheet, so that they follow the theme.
import { h } from "./dom.js";
import { oneIn, rareness } from "./format.js";
import { language, t } from "./words.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const TOP = [14, 12, null, null]; // room for half of the uppermost label, and of the last time
const THINNED_S = 11; // between readings that are kept of a quick sensor
const seconds = (text) => new Date(text).getTime() / 1000;

/** Room for a chart, which is drawn once it is in the page and again when its width or the theme changes. Returns [element, end]. */
function charted(label, high, make) {
  const room = h("div", { class: "chart", role: "img", "aria-label": label });
  let plot = null;
  const draw = () => {
    plot?.destroy();
    const wide = room.clientWidth;
    plot = wide ? make(room, wide, high) : null;
  };
  const watch = new ResizeObserver(() => {
    if (plot && plot.width !== room.clientWidth) plot.setSize({ width: room.clientWidth, height: high });
    else if (!plot) draw();
  });
  watch.observe(room);
  window.addEventListener("theme", draw);
  return [room, () => { watch.disconnect(); window.removeEventListener("theme", draw); plot?.destroy(); }];
}

const clock = (options) => new Intl.DateTimeFormat(language() === "ja" ? "ja-JP" : "en-GB", { hourCycle: "h23", ...options });

/** Columns [times, values] with a hole where far more time passes than usual, or than `least` seconds: a line must not join what is not known. */
function withHoles(times, values, least = 0) {
  const steps = times.slice(1).map((time, place) => time - times[place]);
  const usual = Math.max([...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)] ?? 0, least);
  const found = [[], []];
  times.forEach((time, place) => {
    if (place && usual > 0 && steps[place - 1] > 5 * usual) {
      found[0].push((time + times[place - 1]) / 2);
      found[1].push(null);
    }
    found[0].push(time);
    found[1].push(values[place]);
  });
  return found;
}

/** Times of day below the plot; the date where a day begins, and at the first. */
function timeAxis(more = {}) {
  return axis({
    space: 80,
    values: (_, splits, __, ___, step) => {
      let day = "";
      return splits.map((each) => {
        const date = new Date(each * 1000);
        const today = clock({ day: "numeric", month: language() === "ja" ? "numeric" : "short" }).format(date);
        const time = clock({ hour: "2-digit", minute: "2-digit", ...(step < 60 ? { second: "2-digit" } : {}) }).format(date);
        const shown = today === day ? time : `${time}\n${today}`;
        day = today;
        return shown;
      });
    },
    ...more,
  });
}

const axis = (more = {}) => ({ stroke: css("--ink"), grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--grid"), width: 1 }, font: "13px system-ui, sans-serif", ...more });

/** How unusual a line's records were, with its threshold, and its alarms as spans. */
export function rarityChart(points, threshold, least, spans, begin, end) {
  const times = points.map((point) => seconds(point.time));
  const heights = points.map((point) => rareness(point.p_value, least));
  const limit = threshold === null ? null : rareness(threshold);
  const worst = points.length ? points.reduce((a, b) => (b.p_value < a.p_value ? b : a)) : null;
  const label = worst ? t("chart.rarity", { n: points.length, worst: oneIn(worst.p_value, least), alarms: spans.length }) : t("chart.none");
  return charted(label, 260, (room, wide, high) => new uPlot({
    width: wide, height: high, padding: TOP, legend: { show: false }, cursor: { drag: { x: true, y: false } },
    scales: { x: { range: () => [seconds(begin), seconds(end)] }, y: { range: () => [0, Math.max(3.2, ...heights.map((each) => each + 0.15), (limit ?? 0) + 0.5)] } },
    axes: [timeAxis({ size: 50 }), axis({ size: 112, splits: () => [0, 1, 2, 3, 4, 5, 6], values: (_, all) => all.map((v) => (v === 0 ? t("rarity.usual") : t("rarity.short", { n: (10 ** v).toLocaleString() }))) })],
    series: [{}, { stroke: css("--line"), width: 1.5, spanGaps: false, points: { show: times.length < 60, size: 5 } }],
    hooks: {
      drawClear: [(u) => {
        const { ctx, bbox } = u;
        ctx.save();
        for (const span of spans) {
          const from = Math.max(u.valToPos(seconds(span.begin), "x", true), bbox.left);
          const to = Math.min(span.to ? u.valToPos(seconds(span.to), "x", true) : bbox.left + bbox.width, bbox.left + bbox.width);
          ctx.fillStyle = css("--span");
          ctx.fillRect(from, bbox.top, Math.max(to - from, 3), bbox.height);
        }
        ctx.restore();
      }],
      draw: [(u) => {
        if (limit === null) return;
        const { ctx, bbox } = u, y = u.valToPos(limit, "y", true);
        ctx.save();
        ctx.strokeStyle = css("--limit");
        ctx.lineWidth = 2;
        ctx.setLineDash([8, 6]);
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
        ctx.restore();
      }],
    },
  }, withHoles(times, heights), room));
}

/** One sensor's readings. `from`: where the window of an alarm begins (seconds), or null; `band`: (lowest, highest) of normals, or null. */
export function sensorChart(name, unit, times, values, from = null, band = null) {
  const all = times.map(seconds);
  const known = values.filter((value) => value !== null);
  const label = known.length ? t("chart.sensor", { name, unit, low: Math.min(...known).toPrecision(4), high: Math.max(...known).toPrecision(4) }) : t("chart.sensor_none", { name });
  return charted(label, 140, (room, wide, high) => new uPlot({
    width: wide, height: high, padding: TOP, legend: { show: false }, cursor: { sync: { key: "sensors" }, drag: { x: true, y: false } },
    axes: [timeAxis({ size: 50 }), axis({ size: 66, space: 24 })],
    scales: { y: { range: (_, low, top) => {
      const edges = [low, top, ...(band ?? [])].filter((each) => each !== null && Number.isFinite(each));
      const a = Math.min(...edges), b = Math.max(...edges), pad = (b - a || Math.abs(a) || 1) * 0.06;
      return edges.length ? [a - pad, b + pad] : [0, 1];
    } } },
    series: [{}, { stroke: css("--line"), width: 1.5, spanGaps: false, points: { show: all.length < 40 } }],
    hooks: { drawClear: [(u) => {
      const { ctx, bbox } = u;
      ctx.save();
      if (band) {
        const top = Math.max(u.valToPos(band[1], "y", true), bbox.top), low = Math.min(u.valToPos(band[0], "y", true), bbox.top + bbox.height);
        ctx.fillStyle = css("--band");
        ctx.fillRect(bbox.left, top, bbox.width, Math.max(low - top, 1));
      }
      if (from !== null) {
        const left = Math.max(u.valToPos(from, "x", true), bbox.left);
        ctx.fillStyle = css("--span");
        ctx.fillRect(left, bbox.top, bbox.left + bbox.width - left, bbox.height);
      }
      ctx.restore();
    }] },
  }, withHoles(all, values, THINNED_S), room));
}
