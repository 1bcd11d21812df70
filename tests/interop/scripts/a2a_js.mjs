// @a2a-js/sdk at work against a server: send, stream, error, several turns, cancel.
import { ClientFactory } from "@a2a-js/sdk/client";

const client = await new ClientFactory().createFromUrl(process.argv[2]);
const message = (skill, part, more = {}) => ({
  tenant: "", configuration: undefined, metadata: undefined,
  message: {
    messageId: crypto.randomUUID(), role: 1, contextId: "", taskId: "", extensions: [], referenceTaskIds: [],
    metadata: { skill }, parts: [{ content: part, metadata: undefined, filename: "", mediaType: "" }], ...more,
  },
});
const text = (value) => ({ $case: "text", value });
const data = (value) => ({ $case: "data", value });
const send = (skill, part, more) => client.sendMessage(message(skill, part, more));
const part = (item) => item.artifacts.at(-1).parts[0].content.value;
const seen = {};

seen.echo = part(await send("echo", data({ message: "hello" })));
seen.text = "";
for await (const event of client.sendMessageStream(message("poet", text("x")))) {
  const update = event.payload?.$case === "artifactUpdate" ? event.payload.value : undefined;
  seen.text += update?.artifact?.parts.map((each) => each.content.value).join("") ?? "";
}
const failed = await send("trouble", data({ mode: "designed" }));
seen.failed = [failed.status.state, failed.status.message.parts[0].content.value];
const asked = await send("asking", text("x"));
seen.asked = [asked.status.state, asked.status.message.parts[0].content.value];
await send("asking", text("red"), { taskId: asked.id });
const done = await send("asking", data({ sure: true }), { taskId: asked.id });
seen.done = [done.id === asked.id, part(done)];
const hanging = client.sendMessageStream(message("trouble", data({ mode: "hang" })));
const first = (await hanging.next()).value.payload.value;
seen.cancelled = (await client.cancelTask({ tenant: "", id: first.id, metadata: undefined })).status.state;
console.log(JSON.stringify(seen));
process.exit(0);
