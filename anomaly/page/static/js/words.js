// The page's words, by language. What is missing in a language is said in English.
import en from "../i18n/en.js";
import ja from "../i18n/ja.js";

export const LANGUAGES = { en: "English", ja: "日本語" };
const ALL = { en, ja };
let chosen = first();

function first() {
  let kept = null;
  try {
    kept = localStorage.getItem("language");
  } catch {
    // storage may be switched off
  }
  if (kept in ALL) return kept;
  return (navigator.language ?? "en").toLowerCase().startsWith("ja") ? "ja" : "en";
}

export function language() {
  return chosen;
}

export function choose(name) {
  chosen = name in ALL ? name : "en";
  document.documentElement.lang = chosen;
  try {
    localStorage.setItem("language", chosen);
  } catch {
    // it holds for this visit
  }
}

/** A word or sentence; `{name}` in it is replaced. A key of a family that is not known (a state of a newer version) is shown as it is. */
export function t(key, values = {}) {
  const text = ALL[chosen][key] ?? en[key] ?? key.slice(key.indexOf(".") + 1);
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** Whether this page has words for a key: one of a newer version may be unknown. */
export const known = (key) => key in ALL[chosen] || key in en;

document.documentElement.lang = chosen;
