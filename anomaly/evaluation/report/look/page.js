"use strict";
// Zoom: a plot or a picture opens large; wheel or pinch enlarges it, a drag moves it, a double click puts it back.
const dialog = document.querySelector("dialog"), stage = dialog.querySelector("div");
let at = { x: 0, y: 0, k: 1 }, big = null;
const fingers = new Map();
const place = () => { if (big) big.style.transform = `translate(${at.x}px,${at.y}px) scale(${at.k})`; };
function open(what) {
  stage.replaceChildren();
  big = document.createElement("div");
  big.className = what.closest(".card.bad") ? "big bad" : "big";
  big.append(what.cloneNode(true));
  stage.append(big);
  at = { x: 0, y: 0, k: 1 };
  dialog.showModal();
}
function zoom(x, y, factor) {
  const box = stage.getBoundingClientRect(), k = Math.min(20, Math.max(0.5, at.k * factor)), own = big.getBoundingClientRect();
  const left = own.left - at.x - box.left, top = own.top - at.y - box.top;  // where it lies when it is not moved
  x -= box.left + left; y -= box.top + top;
  at = { x: x - (x - at.x) * k / at.k, y: y - (y - at.y) * k / at.k, k };
  place();
}
stage.addEventListener("wheel", e => { e.preventDefault(); zoom(e.clientX, e.clientY, e.deltaY < 0 ? 1.2 : 1 / 1.2); }, { passive: false });
stage.addEventListener("pointerdown", e => { fingers.set(e.pointerId, e); stage.setPointerCapture(e.pointerId); });
stage.addEventListener("pointermove", e => {
  const before = fingers.get(e.pointerId);
  if (!before) return;
  const other = [...fingers.values()].find(f => f.pointerId !== e.pointerId);
  if (other) {
    const far = f => Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY);
    zoom((e.clientX + other.clientX) / 2, (e.clientY + other.clientY) / 2, far(e) / Math.max(1, far(before)));
  } else { at.x += e.clientX - before.clientX; at.y += e.clientY - before.clientY; place(); }
  fingers.set(e.pointerId, e);
});
for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, e => fingers.delete(e.pointerId));
stage.addEventListener("dblclick", () => { at = { x: 0, y: 0, k: 1 }; place(); });
document.addEventListener("click", e => {
  const flip = e.target.closest("button.flip"), shot = e.target.closest(".shot"), svg = e.target.closest(".plot svg");
  if (e.target.closest(".shut")) dialog.close();
  else if (flip) flip.setAttribute("aria-pressed", String(!flip.parentElement.classList.toggle("bare")));
  else if (dialog.open) return;
  else if (shot) open(shot);
  else if (svg) open(svg);
});
// Hover: what a plot over time shows at the pointer.
const round = v => v === null ? "–" : String(Number(v.toPrecision(4)));
for (const plot of document.querySelectorAll(".plot[data-hover]")) {
  const known = JSON.parse(plot.dataset.hover), tip = document.createElement("div"), rule = document.createElement("div");
  tip.className = "tip"; rule.className = "rule"; tip.hidden = rule.hidden = true;
  plot.append(tip, rule);
  plot.addEventListener("pointermove", e => {
    const svg = plot.querySelector("svg").getBoundingClientRect(), share = ((e.clientX - svg.left) / svg.width - known.left) / (known.right - known.left);
    tip.hidden = rule.hidden = !(share >= 0 && share <= 1);
    if (tip.hidden) return;
    const n = known.x.length, i = Math.min(n - 1, Math.max(0, Math.round(share * (n - 1))));
    tip.textContent = [known.x[i], ...known.rows.map(r => `${r.name}  ${round(r.v[i])}${r.unit ? " " + r.unit : ""}`)].join("\n");
    const box = plot.getBoundingClientRect(), x = e.clientX - box.left + plot.scrollLeft;
    rule.style.left = `${x}px`;
    tip.style.left = `${e.clientX - box.left > box.width / 2 ? x - tip.offsetWidth - 10 : x + 10}px`;
  });
  plot.addEventListener("pointerleave", () => { tip.hidden = rule.hidden = true; });
}
// A table that is wider than the screen says so.
const measure = () => { for (const box of document.querySelectorAll(".scroll")) box.classList.toggle("over", box.scrollWidth > box.clientWidth + 1); };
addEventListener("resize", measure);
document.addEventListener("toggle", measure, true);
measure();
// A link to a word of the glossary opens it.
const unfold = () => { const goal = location.hash.length > 1 && document.getElementById(location.hash.slice(1)); const fold = goal && goal.closest("details"); if (fold) { fold.open = true; goal.scrollIntoView(); } };
addEventListener("hashchange", unfold);
unfold();
