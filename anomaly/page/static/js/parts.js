// Small parts that several views use.
import { h, svg } from "./dom.js";
import { count, oneIn, percent, rareness, told, when } from "./format.js";
import { known, t } from "./words.js";

const SIGNS = { ok: "✓", attention: "▲", alarm: "!", down: "✕", held: "‖" };

/** A line's state: never by colour alone. */
export function stateMark(state) {
  return h("span", { class: `mark mark-${state}` }, h("span", { "aria-hidden": "true", class: "sign" }, SIGNS[state] ?? "?"), t(`state.${state}`));
}

/** How all lines stand, in a sentence. */
export function standing(lines) {
  const held = lines.filter((each) => each.state === "held").length, needs = lines.filter((each) => each.state !== "ok").length - held;
  const words = needs || held ? t("lines.need", { n: needs, all: lines.length }) : t(lines.length === 1 ? "lines.calm_one" : "lines.calm", { all: lines.length });
  return held ? `${words}. ${t("lines.back", { n: held })}` : words;
}

/** An alarm's priority. */
export function priority(name) {
  const bars = { low: "▁", medium: "▃", high: "▆", critical: "█" };
  return h("span", { class: `priority priority-${name}` }, h("span", { "aria-hidden": "true", class: "sign" }, bars[name] ?? ""), t(`priority.${name}`));
}

/** What an alarm is of: its condition, and the sensor where it is one. */
export function condition(name) {
  if (name.startsWith("sink ")) return `${t("col.sink")}: ${name.slice(5)}`;
  const [kind, ...sensor] = name.split(":");
  return sensor.length ? `${t(`condition.${kind}`)}: ${sensor.join(":")}` : t(`condition.${kind}`);
}

/** A cause in the reader's language; where this page has no words for it, as the line says it. */
export function said(cause) {
  const { values, code } = cause, words = told(cause.words);
  if (!known(`said.${code}`)) return words;
  const text = t(`said.${code}`, { ...values, words, began: values.began ? when(values.began) : "", reason: told(values.reason), x: percent(values.x), y: percent(values.y), flagged: count(values.flagged) });
  return text.replace(/^：/, ""); // of pictures no sensor is named
}

/** What an alarm is about; a box of an older version gives it in words alone. */
export const aboutWords = (alarm) => (alarm.cause ? said(alarm.cause) : told(alarm.about));

/** Whether a monitor that runs would have ended it by now. */
export const late = (hold) => Boolean(hold.until) && new Date(hold.until).getTime() < Date.now() - 60_000;

/** How long something is held back. */
export const until = (hold) => (hold.until ? t(late(hold) ? "hold.late" : "hold.until", { time: when(hold.until) }) : t("hold.open"));

/** What holds alarms of a line back, for a card of it. */
export function heldBack(line) {
  const words = (each) => t("lines.held", { kind: t(`hold.${each.kind}`), what: each.condition === "*" ? t("hold.all") : condition(each.condition), until: until(each) });
  return line.held?.length ? h("p", { class: "held" }, line.held.map((each) => h("span", {}, words(each)))) : null;
}

/** What a person did, as the audit log and a release folder write it: "acknowledged", "promoted: press-2". */
export function deedWords(action) {
  const [kind] = action.match(/^(labelled (real|nuisance)|shelved(?= until)|[^:]*)/);
  const marks = action.slice(kind.length).replace(/([,;]) (picture|boxes) /g, (_, mark, what) => `${mark} ${t(`deed.${what}`)} `);
  return t(`event.${kind}`) + marks;
}

export function isaState(name) {
  return h("span", { class: "isa" }, t(`isa.${name}`));
}

/** The newest p-values of a line: the higher, the less usual. The dashes are the threshold. */
export function sparkline(values, threshold, least = 0) {
  const wide = 180, high = 36, top = Math.max(3, rareness(threshold ?? 1e-3) + 0.8);
  const y = (value) => high - 2 - (Math.min(value, top) / top) * (high - 4);
  const points = values.map((p, place) => `${(place / Math.max(values.length - 1, 1)) * wide},${y(rareness(p, least)).toFixed(1)}`).join(" ");
  const lowest = values.length ? Math.min(...values) : null;
  const label = lowest === null ? t("spark.none") : t("spark.label", { n: values.length, worst: oneIn(lowest, least) });
  const drawing = svg("svg", { viewBox: `0 0 ${wide} ${high}`, class: "spark", role: "img", "aria-label": label, preserveAspectRatio: "none" });
  if (threshold) drawing.append(svg("line", { x1: 0, x2: wide, y1: y(rareness(threshold)), y2: y(rareness(threshold)), class: "spark-limit" }));
  if (values.length) drawing.append(svg("polyline", { points, class: "spark-line" }));
  return drawing;
}

/** A list of facts: pairs of a name and what it is. Empty ones are left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return h("dl", { class: "facts" }, shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** A form that does one thing. `fields`: elements; errors are said under the button, and the button waits for the answer. */
export function action(words, fields, send, kind = "") {
  const said = h("p", { class: "said", role: "alert" });
  const button = h("button", { type: "submit", class: kind }, words);
  const form = h("form", {
    class: "action", onsubmit: async (event) => {
      event.preventDefault();
      if (button.disabled) return;
      button.disabled = true;
      said.textContent = "";
      try {
        await send(new FormData(form));
      } catch (error) {
        said.textContent = error.message;
      } finally {
        button.disabled = false;
      }
    },
  }, fields, button, said);
  return form;
}

export function field(label, input) {
  return h("label", { class: "field" }, h("span", {}, label), input);
}

export function choice(name, options, value, onchange) {
  return h("select", { name, onchange }, options.map(([key, words]) => h("option", { value: key, selected: key === value }, words)));
}

/** A table that can be scrolled sideways by keyboard where it does not fit. A column of buttons has no head. */
export function table(caption, heads, rows, none) {
  if (!rows.length) return h("p", { class: "none" }, none);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => (head ? h("th", { scope: "col" }, head) : h("td", {}))))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell)))))));
}

export const lineLink = (name) => `#/line/${encodeURIComponent(name)}`;
export const alarmLink = (id) => `#/alarm/${encodeURIComponent(id)}`;
