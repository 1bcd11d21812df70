// Approvals: what will happen if a person says yes, and saying so.

import { Table, badge, choice, code, empty, facts, link, make, section } from "./dom.js";
import { moment } from "./format.js";
import { get, post } from "./server.js";

const STATUSES = ["pending", "approved", "refused", "expired", "withdrawn"];
const KINDS = { pending: "warn", approved: "good", refused: "bad" };
const statusOf = ({ status }) => badge(KINDS[status] || "plain", status);

export async function approvals([id], query, context) {
  if (id) return approval(id, query.token, context);
  const table = new Table("Approvals, open ones first", [
    { title: "Asked", cell: (row) => moment(row.asked_at) },
    { title: "What will happen", cell: (row) => link(`#approvals/${row.id}`, row.action) },
    { title: "By", cell: (row) => row.asked_by },
    { title: "Agent", wide: true, cell: (row) => row.agent_name },
    { title: "Status", cell: statusOf },
    { title: "Until", wide: true, cell: (row) => moment(row.expires_at) },
    { title: "Decided by", wide: true, cell: (row) => row.decided_by || "" },
  ], (row) => `${row.id} ${row.status}`);
  const box = make("div");
  const update = async () => {
    const { approvals: found } = await get("api/approvals", { status: query.status });
    table.update(found);
    const shown = found.length ? table.element : empty(make("p", {}, "Nothing waits for you."), make("p", { class: "soft" }, "What policies and agents want a person to approve is shown here."));
    if (box.firstChild !== shown) box.replaceChildren(shown);
  };
  await update();
  context.every(3, update);
  return [make("div", { class: "title" }, make("h1", {}, "Approvals"),
    choice("Status", [["", "All"], ...STATUSES.map((one) => [one, one])], query.status || "", (status) => context.filter([], { status }))), box];
}

async function approval(id, token, context) {
  const address = `api/approvals/${encodeURIComponent(id)}`;
  const box = make("div");
  const asked = make("div");
  let shown = "";
  const update = async () => {
    const found = await get(address);
    if (found.status === shown) return;
    shown = found.status;
    const named = [...found.approvers.users, ...found.approvers.groups.map((one) => `group ${one}`)];
    box.replaceChildren(...[
      make("p", {}, statusOf(found), " ", make("strong", {}, found.action)),
      facts([["Asked by", found.asked_by], ["Agent", found.agents.join(" < ")], ["Why", found.rule ? `the rule ${found.rule}` : "the agent wants it"],
        ["Cost", found.cost_usd == null ? null : `$${found.cost_usd.toFixed(2)}`], ["Text from", found.origins.join(", ")], ["Asked", moment(found.asked_at)], ["Until", moment(found.expires_at)],
        ["May decide", named.join(", ") || "operators"], ["Decided", found.decided_by ? `${found.status} by ${found.decided_by}, ${moment(found.decided_at)}` : null], ["Comment", found.comment],
        ["Run", found.asked_by === context.me.user ? link(`#invocations/${found.invocation_id}`, found.invocation_id.slice(0, 8)) : found.invocation_id.slice(0, 8)]]),
      found.diff ? section("What changes", code(found.diff, "Diff")) : null,
      Object.keys(found.details).length ? section("Details", code(found.details, "Details")) : null,
      section("What the run was asked", code(found.input, "Input")),
    ].filter(Boolean));
    asked.replaceChildren(...(found.status === "pending" ? [decision(address, token, found, context, update)] : []));
  };
  await update();
  context.every(3, update);
  return [make("div", { class: "title" }, make("h1", {}, "Approval"), make("code", { class: "soft" }, id)), box, asked];
}

// Who came by a message's link sees the one decision that the link is for.
function decision(address, token, found, context, update) {
  const comment = make("textarea", { id: "comment", rows: "2", maxlength: "2000" });
  const note = make("p", { class: "bad", role: "alert" });
  const send = (body) => post(`${address}/decision`, { ...body, comment: comment.value }).then(update, (error) => { note.textContent = error.message; });
  const button = (verb, label, kind) => make("button", { type: "button", class: kind, onclick: () => send(token ? { token } : { decision: verb }) }, label);
  const verbs = [["approve", "Approve", null], ["refuse", "Refuse", "quiet"]].filter(([verb]) => !token || token.split(".")[1] === verb);
  return make("form", { class: "panel question", onsubmit: (event) => event.preventDefault() },
    make("label", { for: "comment" }, "Comment", comment), note,
    found.four_eyes && found.asked_by === context.me.user ? make("p", { class: "soft" }, "You asked for it: another person has to approve.") : null,
    make("div", { class: "buttons" }, verbs.map(([verb, label, kind]) => button(verb, label, kind))));
}
