// The picture of an alarm with its heat-map over it, and a normal one beside it.
import { alarmPath, get, url } from "../api.js";
import { add, h } from "../dom.js";
import { field } from "../parts.js";
import { t } from "../words.js";

const OUTLINE_SHARE = 0.6; // of the way from the lowest to the highest cell, where no threshold was kept

export async function pictureView(room, id, one, hasNormal) {
  const [wide, high] = one.kept;
  const picture = h("img", { src: url(alarmPath(id, `/${one.role}/picture`)), width: wide, height: high, alt: t("picture.alt", { record: one.record }) });
  const heat = h("canvas", { class: "heat", "aria-hidden": "true" }), outline = h("canvas", { class: "heat", "aria-hidden": "true", width: wide, height: high });
  const stack = h("div", { class: "stack" }, picture, heat, outline);
  const frame = h("div", { class: "frame", tabindex: "0", role: "region", "aria-label": t("picture.frame") }, stack);
  const opacity = h("input", { type: "range", min: 0, max: 100, value: 50, oninput: () => { heat.style.opacity = opacity.value / 100; } });
  const zoom = h("input", { type: "range", min: 100, max: 500, step: 10, value: 100, oninput: () => { stack.style.width = `${zoom.value}%`; } });
  const lines = h("input", { type: "checkbox", checked: true, onchange: () => { outline.hidden = !lines.checked; } });
  const normal = hasNormal ? h("figure", {}, h("img", { src: url(alarmPath(id, "/normal")), alt: t("picture.normal") }), h("figcaption", {}, t("picture.normal"))) : null;
  add(room, [h("div", { class: "row" }, field(t("picture.opacity"), opacity), field(t("picture.zoom"), zoom), h("label", { class: "check" }, lines, t("picture.outline"))),
    h("div", { class: normal ? "pair" : "" }, h("figure", {}, frame, h("figcaption", {}, t("picture.caption"))), normal)]);
  const found = await get(alarmPath(id, `/${one.role}/map`));
  const cells = Uint8Array.from(atob(found.levels), (letter) => letter.charCodeAt(0));
  paint(heat, found, cells);
  heat.style.opacity = 0.5;
  drawOutline(outline, found, cells);
  return [];
}

/** Yellow to red, clear where nothing is unusual. Told apart by brightness, too. */
function paint(canvas, { wide, high }, cells) {
  canvas.width = wide;
  canvas.height = high;
  const context = canvas.getContext("2d"), image = context.createImageData(wide, high);
  cells.forEach((level, place) => {
    const share = level / 255;
    image.data.set([255, Math.round(230 * (1 - share)), 0, Math.round(255 * Math.min(1, share * share * 1.4))], place * 4);
  });
  context.putImageData(image, 0, 0);
}

/** A line around what is above the threshold. */
function drawOutline(canvas, { wide, high, lowest, highest, threshold }, cells) {
  const context = canvas.getContext("2d"), x = canvas.width / wide, y = canvas.height / high, limit = 255 * (threshold === null ? OUTLINE_SHARE : Math.min(1, (threshold - lowest) / (highest - lowest)));
  const inside = (column, row) => column >= 0 && row >= 0 && column < wide && row < high && cells[row * wide + column] >= limit;
  for (const [width, colour] of [[4, "#000"], [2, "#fff"]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.beginPath();
    for (let row = 0; row < high; row += 1) {
      for (let column = 0; column < wide; column += 1) {
        if (!inside(column, row)) continue;
        const left = column * x, top = row * y, right = left + x, bottom = top + y;
        if (!inside(column, row - 1)) { context.moveTo(left, top); context.lineTo(right, top); }
        if (!inside(column, row + 1)) { context.moveTo(left, bottom); context.lineTo(right, bottom); }
        if (!inside(column - 1, row)) { context.moveTo(left, top); context.lineTo(left, bottom); }
        if (!inside(column + 1, row)) { context.moveTo(right, top); context.lineTo(right, bottom); }
      }
    }
    context.stroke();
  }
}
