// What asks before it does: the kill switch, and the token.

import { ApiError, order, remember } from "./api.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

function show(...children) {
  const dialog = document.getElementById("ask");
  dialog.replaceChildren(...children);
  if (!dialog.open) dialog.showModal();
  return dialog;
}

/** Ask whether to engage or release the kill switch, do it, then call `done`. */
export function askKill(engage, done) {
  const kind = engage ? "kill" : "unkill";
  const key = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
  const note = h("input", { id: "note", maxlength: "200", autocomplete: "off" });
  const problem = h("p", { class: "bad-text", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await order({ kind, note: note.value }, key);
      dialog.close();
      done();
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  const dialog = show(h("form", { on: { submit } },
    h("h2", { id: "ask-title" }, t(`${kind}.title`)), h("p", {}, t(`${kind}.text`)),
    h("label", { for: "note" }, t("note"), note), problem,
    h("div", { class: "buttons" },
      h("button", { type: "button", on: { click: () => dialog.close() } }, t("cancel")),
      h("button", { type: "submit", class: engage ? "danger" : "primary" }, t(`${kind}.do`)))));
}

/** Ask for a token; it stays in this tab. Calls `done` when there is one. */
export function askToken(done, refused) {
  const token = h("input", { id: "token", type: "password", autocomplete: "off", required: true });
  const submit = (event) => {
    event.preventDefault();
    remember(token.value.trim());
    dialog.close();
    done();
  };
  const dialog = show(h("form", { on: { submit } },
    h("h2", { id: "ask-title" }, t("token.title")), h("p", {}, t("token.text")),
    h("label", { for: "token" }, t("token"), token), h("p", { class: "bad-text", role: "alert" }, refused ? t("token.refused") : ""),
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, t("token.do")))));
}

export const unauthenticated = (error) => error instanceof ApiError && error.status === 401;
