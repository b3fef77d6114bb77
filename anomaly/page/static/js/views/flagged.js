// The flagged pictures of an alarm, by time: those that are kept can be looked at, one at a time.
import { alarmPath, url } from "../api.js";
import { h } from "../dom.js";
import { number, oneIn, when } from "../format.js";
import { table } from "../parts.js";
import { t } from "../words.js";

const SIDE = 160; // pixels of a small picture, twice what is shown

/** `one`: what is shown now; `show(role)` shows another. */
export function flaggedList(id, found, one, show) {
  const rows = found.flagged.map((each) => [small(id, each, one, show), when(each.time), each.record,
    each.score === null ? "" : number(each.score), oneIn(each.p_value, found.facts.least_p), said(each, found.label)]);
  const left = found.flagged_total - found.flagged.length;
  return [h("h3", {}, t("flagged.title", { n: found.flagged_total })),
    table(t("flagged.title", { n: found.flagged_total }), ["picture", "time", "record", "score", "rarity", "label"].map((key) => t(`col.${key}`)), rows, ""),
    left > 0 ? h("p", { class: "small" }, t("flagged.more", { n: left })) : null];
}

function small(id, each, one, show) {
  if (!each.role) return h("span", { class: "none" }, t("flagged.not_kept"));
  const on = each.role === one.role;
  return h("button", { type: "button", class: "thumb", "aria-pressed": on ? "true" : "false", "data-role": each.role, onclick: () => show(each.role) },
    h("img", { src: url(alarmPath(id, `/${each.role}/picture?side=${SIDE}`)), alt: "" }), h("span", {}, t(on ? "flagged.shown" : `evidence.${each.role}`)));
}

/** What was said of a picture; of older labels, and where none was named, what was said of the alarm. */
function said(each, label) {
  if (each.label) return `${t(`label.${each.label.verdict}`)}${each.label.kind ? ` (${each.label.kind})` : ""}`;
  return label && !label.pictures.length ? t("flagged.of_alarm", { verdict: t(`label.${label.verdict}`) }) : "";
}
