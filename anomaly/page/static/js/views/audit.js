// What people did, the newest first.
import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { told, when } from "../format.js";
import { alarmLink, deedWords, table } from "../parts.js";
import { t } from "../words.js";

const PAGE = 100;

export async function audit(body) {
  const list = h("div", {});
  let offset = 0;
  const load = async () => {
    const deeds = await get("/audit", { limit: PAGE, offset });
    fill(list, table(t("audit.title"), [t("col.time"), t("col.who"), t("col.what"), t("col.line"), t("col.alarm"), t("col.why")],
      deeds.map((each) => [when(each.time), each.who, told(deedWords(each.action)), each.line, each.alarm ? h("a", { href: alarmLink(each.alarm) }, each.alarm.slice(0, 8)) : "", each.why]), t("audit.none")),
    h("div", { class: "row" }, h("button", { type: "button", disabled: offset === 0, onclick: () => { offset -= PAGE; load(); } }, t("pages.before")),
      h("button", { type: "button", disabled: deeds.length < PAGE, onclick: () => { offset += PAGE; load(); } }, t("pages.next"))));
  };
  fill(body, h("h1", {}, t("audit.title")), h("p", { class: "small" }, t("audit.words")), list);
  await load();
}
