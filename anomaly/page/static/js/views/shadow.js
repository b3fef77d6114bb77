// Champion and challenger on the same records.
import { get, post } from "../api.js";
import { fill, h } from "../dom.js";
import { count, when } from "../format.js";
import * as live from "../live.js";
import { action, choice, facts, field, table } from "../parts.js";
import { t } from "../words.js";

export async function shadow(body, { name, person }) {
  const lines = (live.now.lines ?? (await get("/lines"))).lines.map((each) => each.name).sort();
  const shown = name || lines[0];
  const below = h("div", {});
  fill(body, h("h1", {}, t("shadow.title")), lines.length ? field(t("col.line"), choice("line", lines.map((each) => [each, each]), shown, (event) => { location.hash = `#/shadow/${encodeURIComponent(event.target.value)}`; })) : h("p", { class: "none" }, t("lines.none")), below);
  if (!shown) return;
  const draw = async () => {
    const found = await get("/shadow", { name: shown });
    const both = found.compared;
    fill(below, h("p", { class: "verdict" }, found.words), found.release ? facts([[t("shadow.champion"), found.champion], [t("shadow.challenger"), found.challenger || "–"]]) : null,
      both && both.records ? table(t("shadow.table"), ["", t("shadow.new_flagged"), t("shadow.new_not")], [[h("b", {}, t("shadow.old_flagged")), count(both.both), count(both.champion_only)], [h("b", {}, t("shadow.old_not")), count(both.challenger_only), count(both.neither)]], "") : null,
      person.role === "admin" && found.release ? h("div", { class: "row" },
        found.challenger ? deed("shadow.promote", "/shadow/promote") : null, deed("shadow.rollback", "/shadow/rollback")) : null,
      found.history.length ? [h("h2", {}, t("shadow.history")), table(t("shadow.history"), ["time", "what", "who", "why"].map((key) => t(`col.${key}`)), found.history.map((each) => [when(each.time), each.action, each.who, each.why]), "")] : null);
  };
  const deed = (words, path) => h("details", { class: "deed" }, h("summary", {}, t(words)), h("p", {}, t(`${words}_words`)),
    action(t("shadow.sure"), [field(t("col.why"), h("input", { name: "why", maxlength: 500, required: true }))], async (form) => {
      await post(`${path}?name=${encodeURIComponent(shown)}`, { why: form.get("why") });
      await draw();
    }, "main"));
  await draw();
}
