// The official TypeScript client against the fixture: `node mcp_client.mjs URL` prints what it saw as JSON.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
const url = process.argv[2];
const seen = { progress: [], logs: [], changes: 0 };
const client = new Client({ name: 'ts', version: '1' }, { capabilities: { sampling: {}, elicitation: {} } });
client.setRequestHandler('sampling/createMessage', async (r) => ({ role: 'assistant', model: 'm', content: { type: 'text', text: 'sampled ' + r.params.messages[0].content.text } }));
client.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: { username: 'ada', email: 'a@b.c' } }));
client.setNotificationHandler('notifications/message', (n) => { seen.logs.push(n.params.data); });
client.setNotificationHandler('notifications/tools/list_changed', () => { seen.changes++; });
const transport = new StreamableHTTPClientTransport(new URL(url));
await client.connect(transport);
seen.session = Boolean(transport.sessionId);
seen.version = transport.protocolVersion ?? client.getNegotiatedProtocolVersion?.();
seen.tools = (await client.listTools()).tools.length;
seen.text = (await client.callTool({ name: 'test_simple_text', arguments: {} })).content[0].text;
await client.callTool({ name: 'test_tool_with_progress', arguments: {} }, { onprogress: (p) => seen.progress.push(p.progress) });
seen.sampled = (await client.callTool({ name: 'test_sampling', arguments: { prompt: 'x' } })).content[0].text;
seen.elicited = (await client.callTool({ name: 'test_elicitation', arguments: { message: 'who' } })).content[0].text;
await client.callTool({ name: 'test_tool_with_logging', arguments: {} });
seen.resumed = (await client.callTool({ name: 'test_reconnection', arguments: {} })).content[0].text;
seen.prompt = (await client.getPrompt({ name: 'test_prompt_with_arguments', arguments: { arg1: '1', arg2: '2' } })).messages[0].content.text;
seen.resource = (await client.readResource({ uri: 'test://static-text' })).contents[0].text;
seen.completed = (await client.complete({ ref: { type: 'ref/prompt', name: 'test_prompt_with_arguments' }, argument: { name: 'arg1', value: 'par' } })).completion.values;
await client.subscribeResource?.({ uri: 'test://watched-resource' });
await client.callTool({ name: 'test_trigger_tool_change', arguments: {} });
for (let i = 0; i < 100 && !seen.changes; i++) await new Promise((r) => setTimeout(r, 20));
const stop = new AbortController();
const slow = client.callTool({ name: 'test_slow', arguments: {} }, { signal: stop.signal }).catch((e) => String(e.message ?? e));
setTimeout(() => stop.abort('enough'), 200);
seen.refusal = await slow;
seen.cancelled = 0;
for (let i = 0; i < 100 && !seen.cancelled; i++) {
  seen.cancelled = Number((await client.callTool({ name: 'test_cancelled', arguments: {} })).content[0].text);
}
await transport.terminateSession?.();
await client.close();
process.stdout.write(JSON.stringify(seen));
