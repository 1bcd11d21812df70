// Everything the JavaScript client has, against the server at argv[2]. JSON.
import { Client, ServerError } from "./dist/index.js";

const client = new Client(process.argv[2]);
const answer = await client.execute("echo", { message: "hello" }, { sessionId: "s", timeoutSeconds: 20, idempotencyKey: "k" });
const again = await client.execute("echo", { message: "hello" }, { sessionId: "s", idempotencyKey: "k" });
const streamed = [];
for await (const event of client.stream("writer", { words: ["a", "ü", "c"] })) streamed.push(event);
const [first, second] = await client.batch([["echo", { message: "one" }], ["missing", {}]]);
await client.feedback(answer.metadata.execution_id, 1, { comment: "good" });

let refused, failed;
try { await client.execute("writer", {}); } catch (error) { refused = error; }
try { for await (const _ of client.stream("trouble", { mode: "designed" })); } catch (error) { failed = error; }

let chosen;
for await (const event of client.stream("asking", {})) {
  if (event.type === "asked") {
    const value = event.data.message === "Which color?" ? { color: "red" } : { sure: true };
    await client.answer(event.data.execution_id, event.data.question_id, value);
  }
  if (event.type === "completed") chosen = event.data.result;
}

for await (const event of client.stream("trouble", { mode: "hang" })) if (event.type === "started") break;

const id = crypto.randomUUID();
const begun = await client.invoke("echo", { message: "later" }, { background: true, id });
const followed = [];
for await (const event of client.follow(id)) followed.push(event);
const ended = await client.invocation(id);
const rest = [];
for await (const event of client.follow(id, followed[0].id)) rest.push(event);
const hanging = await client.invoke("trouble", { mode: "hang" }, { background: true });
const cancelled = await client.cancel(hanging.id);
const health = await client.request("GET", "/health/live");

console.log(JSON.stringify({
  result: answer.result,
  same: again.metadata.execution_id === answer.metadata.execution_id,
  streamed: streamed.filter((one) => one.type === "text_delta").map((one) => one.data.text),
  last: streamed.at(-1).type,
  batch: [first.result, second instanceof ServerError && second.code],
  agents: (await client.agents()).map((one) => one.name).sort(),
  refused: [refused instanceof ServerError, refused.code, refused.status, refused.problem.errors[0].path],
  failed: [failed.code, failed.message.includes("after midnight"), typeof failed.executionId],
  chosen,
  invocation: [begun.id === id, ended.status, ended.output],
  followed: [followed.at(-1).type, followed.length - rest.length],
  cancelled: cancelled.id === hanging.id,
  health: typeof health,
}));
