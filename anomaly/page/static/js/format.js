// Numbers, times and rarity, as a person reads them.
import { language, t } from "./words.js";

/** A time of the API in the browser's zone, in full or the time of day alone. */
export function when(text, short = false) {
  if (!text) return "";
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return "";
  const today = new Date().toDateString() === date.toDateString();
  const day = short && today ? {} : { year: "numeric", month: "2-digit", day: "2-digit" };
  return new Intl.DateTimeFormat(language() === "ja" ? "ja-JP" : "sv-SE", { // 2026-01-12 10:52:40: no day that may be a month
    ...day, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
  }).format(date);
}

/** Text of a monitor with its times (UTC) as the rest of the page shows them. */
export function told(text) {
  return (text ?? "").replace(/\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)/g, (time) => when(time) || time);
}

/** Seconds in words: 12 s, 3 min, 5 h, 2 d. */
export function lasted(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const [value, unit] = seconds < 90 ? [seconds, "s"] : seconds < 5400 ? [seconds / 60, "min"] : seconds < 129600 ? [seconds / 3600, "h"] : [seconds / 86400, "d"];
  return t(`unit.${unit}`, { n: Math.round(value) });
}

export function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  return new Intl.NumberFormat(language(), { maximumSignificantDigits: digits }).format(value);
}

export function count(value) {
  return value === null || value === undefined ? "–" : new Intl.NumberFormat(language()).format(value);
}

export function percent(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  return new Intl.NumberFormat(language(), { style: "percent", maximumSignificantDigits: digits }).format(value);
}

/** A p-value as "1 in 1,000 normal records". `least`: the smallest that the detector's normals can tell. */
export function oneIn(p, least = 0) {
  if (p === null || p === undefined) return "";
  if (p > 0.4) return t("rarity.usual");
  const many = Number((1 / Math.max(p, least ?? 0, 1e-12)).toPrecision(2));
  return t(p < least ? "rarity.rarer" : "rarity.one_in", { n: count(many) });
}

/** The height of a p-value in a plot: one step is ten times as rare. */
export function rareness(p, least = 0) {
  return p === null || p === undefined ? null : -Math.log10(Math.max(p, least ?? 0, 1e-6));
}
