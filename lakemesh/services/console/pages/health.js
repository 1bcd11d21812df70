// How the server is, part by part.

import { badge, code, folded, make } from "./dom.js";
import { cell } from "./format.js";
import { health } from "./server.js";

const REFRESH_SECONDS = 10;

export async function healthPage(path, query, context) {
  const box = make("div");
  const update = async () => box.replaceChildren(...shown(await health()));
  await update();
  context.every(REFRESH_SECONDS, async () => { if (!box.contains(document.activeElement)) await update(); });
  return [make("h1", {}, "Health"), box];
}

// The part's figures and names, in one line.
const said = (part) => Object.entries(part).filter(([name, value]) => name !== "degraded" && (typeof value === "number" || typeof value === "string"))
  .slice(0, 4).map(([name, value]) => `${name.replaceAll("_", " ")} ${cell(value)}`).join(" · ");

function shown({ status, parts }) {
  const panels = Object.entries(parts || {}).map(([name, part]) => make("section", { class: "panel" },
    make("h2", {}, name.replaceAll("_", " "), " ", part.degraded ? badge("bad", "degraded") : badge("good", "well")),
    part.degraded ? make("p", { class: "bad" }, typeof part.degraded === "string" ? part.degraded : cell(part.degraded)) : null,
    make("p", { class: "soft" }, said(part)),
    folded("Details", code(part, `Details of ${name}`))));
  return [make("p", {}, "This server is ", badge(status === "ready" ? "good" : "bad", status), "."),
    parts ? make("div", { class: "grid" }, panels) : make("p", { class: "soft" }, "Its parts are shown to operators (server.operators).")];
}
