// A pipeline that was built: its graph by layer, its checks on Spark, what changes, and its files.

import { badge, code, folded, make, scrolling, section } from "./dom.js";
import { count } from "./format.js";

export const isPipeline = (result) => Boolean(result?.graph && result.files && result.digest && result.changes);

const LAYERS = ["source", "bronze", "silver", "gold", "sink"];

export function pipeline(result) {
  const changes = result.changes.map(({ what, destructive }) => make("li", {}, destructive ? [badge("bad", "loses data"), " "] : null, what));
  return make("div", { class: "pipeline" },
    section("Graph", graph(result.graph)),
    result.changes.length ? section("Changes", make("ul", {}, changes)) : null,
    section("Checks", checks(result)),
    result.assumptions.length ? section("Assumed", make("ul", {}, result.assumptions.map((line) => make("li", {}, line)))) : null,
    outcome(result),
    section("Files", Object.entries(result.files).map(([path, text]) => folded(path, code(text, path)))));
}

function graph(nodes) {
  const layers = LAYERS.map((layer) => [layer, nodes.filter((node) => node.layer === layer)]).filter(([, found]) => found.length);
  return scrolling("The datasets by layer", make("div", { class: "layers" }, layers.map(([layer, found]) =>
    make("div", { class: "layer" }, make("h3", {}, layer), found.map((node) => make("div", { class: "node" },
      make("strong", {}, node.name), make("div", { class: "soft" }, node.kind.replaceAll("_", " ")),
      node.reads.length ? make("div", { class: "soft" }, "from ", node.reads.join(", ")) : null,
      node.rules.map((rule) => make("div", { class: "soft" }, rule))))))));
}

function checks({ proof, proof_error: error }) {
  if (error) return make("p", { class: "bad" }, error);
  if (!proof) return make("p", { class: "soft" }, "The gate let the code through; nothing was run.");
  const rows = Object.entries(proof).map(([name, { rows: found, expected, differing }]) => make("tr", {},
    make("th", { scope: "row" }, name), make("td", {}, count(found)), make("td", {}, count(expected)),
    make("td", {}, differing ? badge("bad", `${count(differing)} differ`) : badge("good", "as defined"))));
  const head = make("tr", {}, ["table", "rows", "expected", ""].map((title) => make("th", { scope: "col" }, title)));
  return scrolling("Rows on Spark", make("table", {}, make("thead", {}, head), make("tbody", {}, rows)));
}

function outcome({ version, deployment }) {
  if (!version && !deployment) return null;
  return section("Given out",
    version ? make("p", {}, `${version.branch} ${version.commit.slice(0, 12)} ${version.proposal || ""}`) : null,
    deployment ? make("p", {}, badge(deployment.state === "completed" ? "good" : "bad", deployment.state), ` ${deployment.explanation || deployment.update_id}`) : null);
}
