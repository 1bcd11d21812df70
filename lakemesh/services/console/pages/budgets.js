// Budgets: what is left, until when, and for operators whose it is.

import { Table, badge, empty, make, section } from "./dom.js";
import { moment } from "./format.js";
import { get } from "./server.js";

const amount = (unit, value) => (unit === "usd" ? `$${value.toFixed(value < 1 ? 4 : 2)}` : Math.round(value).toLocaleString());

function bar(row, warnAt) {
  const used = Math.min(1, (row.spent + row.reserved) / row.limit);
  const kind = used >= 1 ? "bad" : used >= warnAt ? "warn" : "good";
  return make("span", {}, badge(kind, `${Math.round(used * 100)} %`), " ",
    make("meter", { min: "0", max: "1", high: String(warnAt), value: String(used), "aria-label": `${row.budget}: used` }));
}

function table(caption, rows, warnAt, whose) {
  const columns = [
    { title: "Budget", cell: (row) => make("span", { title: row.description }, row.budget) },
    whose && { title: "Of", cell: (row) => row.subject || "everybody" },
    { title: "Counts", cell: (row) => row.unit.replace("_", " ") },
    { title: "Used", cell: (row) => bar(row, warnAt) },
    { title: "Spent", number: true, cell: (row) => amount(row.unit, row.spent) },
    { title: "Set aside", number: true, wide: true, cell: (row) => amount(row.unit, row.reserved) },
    { title: "Limit", number: true, cell: (row) => amount(row.unit, row.limit) },
    { title: "Renews", wide: true, cell: (row) => (row.renews_at ? moment(row.renews_at) : "never") },
  ].filter(Boolean);
  const made = new Table(caption, columns, (row) => JSON.stringify(row));
  made.update(rows);
  return made;
}

export async function budgets(path, query, context) {
  const box = make("div");
  let shown = "";
  const update = async () => {
    const found = await get("api/budgets");
    const key = JSON.stringify(found);
    if (key === shown) return;
    shown = key;
    box.replaceChildren(...[
      found.budgets.length ? table("Your budgets", found.budgets, found.warn_at, true).element
        : empty(make("p", {}, "No budget is about you."), make("p", { class: "soft" }, "Budgets are written in budgets.yaml, beside the configuration.")),
      found.everybody?.length ? section("Everybody's", table("Everybody's budgets", found.everybody, found.warn_at, true).element) : null,
      make("p", { class: "soft" }, found.kept_in === "the database" ? "Counted over all replicas." : "Counted by this server alone: it has no database."),
    ].filter(Boolean));
  };
  await update();
  context.every(5, update);
  return [make("h1", {}, "Budgets"), box];
}
