// Signing in by a token.
import { me, post, url } from "../api.js";
import { fill, h } from "../dom.js";
import { action, field } from "../parts.js";
import { t } from "../words.js";

export async function signIn(body, { person, signedIn }) {
  const ways = person?.ways ?? ["token"];
  const token = h("input", { id: "token", type: "password", name: "token", autocomplete: "current-password", required: true });
  const byToken = [h("p", {}, t("sign_in.words")),
    action(t("sign_in.button"), field(t("sign_in.token"), token), async (form) => {
      await post("/session", { token: String(form.get("token")).trim() });
      await me();
      token.id = "";
      await signedIn();
    }, "main")];
  fill(body, h("h1", {}, t("sign_in.title")), ways.includes("token") ? byToken : null,
    ways.includes("oidc") ? h("p", {}, h("a", { class: "button", href: `${url("/oidc/begin")}?to=${encodeURIComponent(location.hash)}` }, t("sign_in.oidc"))) : null);
}
