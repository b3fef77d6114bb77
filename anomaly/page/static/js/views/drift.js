// Data quality and drift of a line.
import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { percent, told, when } from "../format.js";
import * as live from "../live.js";
import { aboutWords, alarmLink, choice, condition, facts, field, priority, said, table } from "../parts.js";
import { t } from "../words.js";

export async function drift(body, { name }) {
  const lines = await live.lineNames();
  const shown = name || lines[0];
  const below = h("div", {});
  fill(body, h("h1", {}, t("drift.title")), lines.length ? field(t("col.line"), choice("line", lines.map((each) => [each, each]), shown, (event) => { location.hash = `#/drift/${encodeURIComponent(event.target.value)}`; })) : h("p", { class: "none" }, t("lines.none")), below);
  if (!shown) return;
  const found = await get("/line/drift", { name: shown });
  fill(below, facts([[t("fact.drift"), found.level === null ? t("drift.unknown") : found.level >= 1 ? t("drift.is") : t("drift.level", { share: percent(found.level) })]]),
    h("p", { class: "small" }, t("drift.words")),
    h("h2", {}, t("drift.quality")), table(t("drift.quality"), ["since", "condition", "priority", "about"].map((key) => t(`col.${key}`)),
      found.quality.map((each) => [h("a", { href: alarmLink(each.id), "data-row": true }, when(each.opened)), condition(each.condition), priority(each.priority), aboutWords(each)]), t("drift.no_quality")),
    h("h2", {}, t("drift.events")), table(t("drift.events"), ["time", "what", "why"].map((key) => t(`col.${key}`)),
      found.events.map((each) => [when(each.time), t(`event.${each.kind}`), each.cause ? said(each.cause) : told(each.why)]), t("drift.no_events")),
    h("h2", {}, t("drift.rejected")), table(t("drift.rejected"), ["time", "record", "why"].map((key) => t(`col.${key}`)),
      found.rejected.map((each) => [when(each.time), each.record, each.reason]), t("drift.no_rejected")));
}
