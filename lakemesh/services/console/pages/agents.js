// The agents there are, and trying one by a form made of its input schema.

import { messageField } from "./chat.js";
import { badge, code, folded, link, make } from "./dom.js";
import { SchemaForm } from "./forms.js";
import { Run } from "./run.js";
import { get } from "./server.js";

export async function agents([name], query, context) {
  if (name) return agent(await get(`api/agents/${encodeURIComponent(name)}`), context);
  const { agents: list } = await get("api/agents");
  return [make("h1", {}, "Agents"), make("div", { class: "grid" }, list.map((item) => make("section", { class: "panel" },
    make("h2", {}, link(`#agents/${encodeURIComponent(item.name)}`, item.name)),
    make("p", {}, item.description),
    make("p", {}, item.expose.map((door) => [badge("plain", door), " "])),
    make("p", { class: "buttons" }, messageField(item) ? link(`#chat/${encodeURIComponent(item.name)}`, "Chat") : null, link(`#agents/${encodeURIComponent(item.name)}`, "Try"),
      link(`#executions?agent=${encodeURIComponent(item.name)}`, "Executions")))))];
}

function agent(item, context) {
  const form = new SchemaForm(item.input_schema);
  const session = make("input", { id: "session", maxlength: 200, placeholder: "none" });
  const note = make("p", { class: "bad", role: "alert" });
  const output = make("div", { "aria-live": "polite" });
  const start = make("button", {}, "Run");
  const stop = make("button", { type: "button", class: "quiet", hidden: true }, "Cancel");
  let run = null;
  const submit = async () => {
    const data = form.data();
    if (!data || run) return;
    note.textContent = "";
    run = new Run();
    output.replaceChildren(make("div", { class: "panel" }, run.element));
    stop.onclick = () => run.cancel();
    [start.hidden, stop.hidden] = [true, false];
    const { problem } = await run.start({ agent_name: item.name, data, ...(session.value ? { session_id: session.value } : {}) });
    [start.hidden, stop.hidden] = [false, true];
    run = null;
    if (problem?.errors) note.textContent = form.faults(problem.errors).join("; ");
  };
  context.signal.addEventListener("abort", () => run?.cancel());
  return [
    make("div", { class: "title" }, make("h1", {}, item.name), messageField(item) ? link(`#chat/${encodeURIComponent(item.name)}`, "Chat") : null,
      link(`#executions?agent=${encodeURIComponent(item.name)}`, "Executions")),
    make("p", {}, item.description),
    make("div", { class: "try" },
      make("form", { class: "panel", novalidate: true, onsubmit: (event) => { event.preventDefault(); submit(); } }, form.element,
        make("div", { class: "field" }, make("label", { for: "session" }, "session id ", make("small", { class: "soft" }, "optional")), session),
        note, make("div", { class: "buttons" }, start, stop)),
      output),
    folded("Input schema", code(item.input_schema, "Input schema")),
    folded("Output schema", code(item.output_schema, "Output schema")),
  ];
}
