// All lines at a glance, those that need a person first.
import { fill, h, redraw } from "../dom.js";
import { count, lasted, percent, when } from "../format.js";
import * as live from "../live.js";
import { heldBack, lineLink, priority, said, sparkline, standing, stateMark } from "../parts.js";
import { t } from "../words.js";

export async function lines(body) {
  const summary = h("p", { class: "summary" });
  const list = h("ul", { class: "cards" });
  fill(body, h("h1", {}, t("lines.title")), summary, list);
  const draw = (found) => {
    summary.textContent = found.lines.length
      ? standing(found.lines) + (found.live ? "" : ` ${t("lines.not_live")}`)
      : t("lines.none");
    redraw(list, found.lines.map(card));
  };
  draw(await live.lines());
  return live.on("lines", draw);
}

function card(line) {
  const rate = line.flagged_share === null ? null
    : t("lines.rate", { share: percent(line.flagged_share), budget: percent(line.budget_share), n: count(line.records), flagged: count(line.flagged) });
  const over = line.flagged_share !== null && line.budget_share !== null && line.records > 200 && line.flagged_share > 2 * line.budget_share;
  return h("li", { class: `card card-${line.state}` },
    h("div", { class: "card-head" },
      h("h2", {}, h("a", { href: lineLink(line.name), "data-row": true, "data-key": line.name }, line.name)), stateMark(line.state)),
    line.causes.length ? h("p", { class: "why" }, line.causes.map(said).join("; ")) : null,
    heldBack(line),
    line.open ? h("p", {}, h("a", { href: `#/alarms?line=${encodeURIComponent(line.name)}`, "data-key": `${line.name} alarms` },
      t("lines.open", { n: line.open, waiting: line.waiting })), " ", line.worst_priority ? priority(line.worst_priority) : null) : null,
    sparkline(line.sparkline, line.budget_share, line.least_p),
    rate ? h("p", { class: over ? "over" : "" }, rate) : null,
    h("p", { class: "small" },
      line.last_record ? t(line.last_record_age_s === null ? "lines.last_only" : "lines.last", { time: when(line.last_record), age: lasted(line.last_record_age_s) }) : t("lines.no_record")),
    line.bundle ? h("p", { class: "small" }, t("lines.bundle", { name: line.bundle, hash: line.bundle_hash.slice(0, 8), provider: line.provider })) : null);
}
