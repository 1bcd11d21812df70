// What `openapi-typescript` made of our document: `tsc --strict` holds this program to it.
import type { components, paths } from "./generated.js";

type Problem = components["schemas"]["Problem"];
type Execute = paths["/api/execute"]["post"];
type Answer = Execute["responses"][200]["content"]["application/json"];
type Refusal = Execute["responses"][422]["content"]["application/problem+json"];
type Batch = paths["/api/execute/batch"]["post"];
type Agent = paths["/api/agents/{name}"]["get"];

const base: string = process.argv[2] ?? "";
const request: Execute["requestBody"]["content"]["application/json"] = { agent: "echo", data: { message: "hello" } };
const name: Agent["parameters"]["path"]["name"] = "echo";
const message: components["schemas"]["WebSocketRun"] = { id: "1", agent_name: "echo", data: {} };

async function post(path: string, body: unknown): Promise<Response> {
  return fetch(base + path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

const answer: Answer = (await (await post("/api/execute", request)).json()) as Answer;
const batched: Batch["requestBody"]["content"]["application/json"] = { requests: [request] };
const batch = (await (await post("/api/execute/batch", batched)).json()) as Batch["responses"][200]["content"]["application/json"];
const described = (await (await fetch(`${base}/api/agents/${name}`)).json()) as Agent["responses"][200]["content"]["application/json"];
const refusal: Refusal = (await (await post("/api/execute", { agent: "writer", data: {} })).json()) as Refusal;
const problem: Problem = refusal;
const seen = {
  agent: answer.agent_name,
  batched: batch.results[0]?.output?.agent_name,
  described: described.name,
  code: problem.code,
  path: problem.errors?.[0]?.path,
  id: message.id,
};
console.log(JSON.stringify(seen));
