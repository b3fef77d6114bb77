// Was it real? What people say here is what the next fit learns from.
import { alarmPath, post, url } from "../api.js";
import { fill, h } from "../dom.js";
import { when } from "../format.js";
import { action, choice, field } from "../parts.js";
import { t } from "../words.js";

/** `one`: what is shown, a picture or readings; undefined where nothing is kept. */
export function labelling(found, again, one) {
  const { alarm, label, kept } = found;
  const picture = one?.kind === "picture" ? one : null;
  const pictures = kept.filter((each) => each.kind === "picture");
  const known = picture ? ofPicture(found, picture) : label;
  const boxes = known?.verdict === "real" ? known.boxes.map((box) => [...box]) : [];
  const spans = label?.verdict === "real" ? label.stretches.map((span) => [...span]) : [];
  const marks = h("div", {}), drawn = picture ? boxEditor(alarm.id, picture, boxes) : null;
  const verdict = choice("verdict", [["real", t("label.real")], ["nuisance", t("label.nuisance")]], known?.verdict ?? "real", () => { marks.hidden = verdict.value !== "real"; });
  const of = pictures.length > 1 ? choice("of", [["one", t("label.of_one", { record: picture.record })], ["all", t("label.of_all", { n: pictures.length })]], "one", () => { drawn.hidden = of.value === "all"; }) : null;
  marks.hidden = verdict.value !== "real";
  fill(marks, field(t("label.kind"), h("input", { name: "kind", maxlength: 63, value: known?.kind ?? "", autocomplete: "off" })),
    drawn, kept.some((each) => each.kind === "window") ? spanEditor(alarm, spans) : null);
  return [h("p", {}, label ? t("label.said", { verdict: t(`label.${label.verdict}`), who: label.who, time: when(label.time), reason: label.reason }) : t("label.nothing")),
    pictures.length > 1 ? h("p", { class: "small" }, t("label.several", { n: pictures.length })) : null,
    action(t("label.give"), [of ? field(t("label.of"), of) : null, field(t("label.verdict"), verdict), marks, field(t("label.reason"), h("input", { name: "reason", maxlength: 500, autocomplete: "off" }))], async (form) => {
      const real = form.get("verdict") === "real", all = form.get("of") === "all";
      await post(alarmPath(alarm.id, "/label"), { verdict: form.get("verdict"), reason: form.get("reason"), kind: real ? form.get("kind") : "", boxes: real && !all ? boxes : [], stretches: real ? spans : [],
        pictures: all ? pictures.map((each) => each.time) : picture ? [picture.time] : [] });
      await again();
    }), h("p", { class: "small" }, h("a", { href: url("/labels.zip"), download: "" }, t("label.export")))];
}

/** What was said of a picture. A label that names none is of the one that is kept, and its boxes were drawn on the one that opened the alarm. */
function ofPicture({ label, kept, flagged }, picture) {
  const own = flagged.find((each) => each.role === picture.role)?.label;
  if (own || !label || label.pictures.length) return own ?? null;
  return kept.length === 1 || (label.boxes.length && picture.role === "opened") ? label : null;
}

/** Boxes are drawn by a mouse or a finger, or written as numbers. They are pixels of the original picture. */
function boxEditor(id, one, boxes) {
  const [wide, high] = one.size;
  const canvas = h("canvas", { class: "boxes", width: one.kept[0], height: one.kept[1], role: "img", "aria-label": t("label.draw") });
  const list = h("ul", { class: "marks" });
  const picture = new Image();
  let begin = null, end = null;
  const scale = one.kept[0] / wide;
  const draw = () => {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (picture.complete) context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    const open = begin && end ? [box(begin, end)] : [];
    for (const [x, y, w, hh] of [...boxes, ...open]) {
      for (const [width, colour] of [[5, "#000"], [2.5, "#ffb000"]]) {
        context.lineWidth = width;
        context.strokeStyle = colour;
        context.strokeRect(x * scale, y * scale, w * scale, hh * scale);
      }
    }
    fill(list, boxes.map((each, place) => h("li", {}, each.map((value, side) => h("input", {
      type: "number", min: 0, max: side % 2 ? high : wide, step: 1, value: Math.round(value), "aria-label": t(`label.side${side}`, { n: place + 1 }),
      onchange: (event) => { each[side] = Number(event.target.value); draw(); },
    })), h("button", { type: "button", "aria-label": t("label.drop", { n: place + 1 }), onclick: () => { boxes.splice(place, 1); draw(); } }, "×"))));
  };
  const at = (event) => {
    const edge = canvas.getBoundingClientRect();
    return [Math.min(wide, Math.max(0, ((event.clientX - edge.left) / edge.width) * wide)), Math.min(high, Math.max(0, ((event.clientY - edge.top) / edge.height) * high))];
  };
  canvas.addEventListener("pointerdown", (event) => { begin = at(event); end = begin; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => { if (begin) { end = at(event); draw(); } });
  canvas.addEventListener("pointerup", () => {
    const made = begin && end ? box(begin, end) : null;
    if (made && made[2] >= 2 && made[3] >= 2) boxes.push(made.map(Math.round));
    begin = end = null;
    draw();
  });
  picture.onload = draw;
  picture.src = url(alarmPath(id, `/${one.role}/picture`));
  draw();
  return h("details", { class: "deed" }, h("summary", {}, t("label.boxes")), h("p", { class: "small" }, t("label.boxes_words")), canvas, list,
    h("button", { type: "button", onclick: () => { boxes.push([Math.round(wide / 4), Math.round(high / 4), Math.round(wide / 2), Math.round(high / 2)]); draw(); } }, t("label.add_box")));
}

const box = ([a, b], [c, d]) => [Math.min(a, c), Math.min(b, d), Math.abs(a - c), Math.abs(b - d)];

/** When a fault of a machine lasted, in the browser's zone. */
function spanEditor(alarm, spans) {
  const list = h("ul", { class: "marks" });
  const local = (text) => { const date = new Date(text); return new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 19); };
  const draw = () => fill(list, spans.map((each, place) => h("li", {}, ["label.from", "label.to"].map((words, side) => h("input", {
    type: "datetime-local", step: 1, value: local(each[side]), "aria-label": t(words, { n: place + 1 }), onchange: (event) => { if (event.target.value) each[side] = new Date(event.target.value).toISOString(); },
  })), h("button", { type: "button", "aria-label": t("label.drop", { n: place + 1 }), onclick: () => { spans.splice(place, 1); draw(); } }, "×"))));
  draw();
  return h("details", { class: "deed" }, h("summary", {}, t("label.spans")), h("p", { class: "small" }, t("label.spans_words")), list,
    h("button", { type: "button", onclick: () => { spans.push([alarm.opened, alarm.closed ?? new Date().toISOString()]); draw(); } }, t("label.add_span")));
}
