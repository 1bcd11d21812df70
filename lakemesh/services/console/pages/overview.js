// The first page: what happened, how fast, at what price, and where to look.

import { bars } from "./bars.js";
import { Table, badge, choice, empty, link, make, section } from "./dom.js";
import { SPANS, count, dollars, milliseconds, share, short, tokens } from "./format.js";
import { get } from "./server.js";

const QUICK_SECONDS = 15;

export async function overview(path, query, context) {
  const hours = query.hours || "24";
  const span = choice("Time", SPANS, hours, (value) => context.filter([], { hours: value }));
  const content = make("div");
  const update = async () => content.replaceChildren(...figures(await get("console/api/overview", { hours }), Number(hours), context.me));
  await update();
  context.every(QUICK_SECONDS, async () => {
    if (!content.contains(document.activeElement)) await update();
  });
  return [make("div", { class: "title" }, make("h1", {}, "Overview"), span), content];
}

function figures({ total, over_time: points, agents, bucket_seconds: size }, hours, me) {
  if (!total.executions && !total.refused) {
    return [empty(make("p", {}, make("strong", {}, "Nothing ran in this time.")),
      make("p", { class: "soft" }, "What agents do appears here as it happens."),
      make("p", {}, link("#chat", "Chat with an agent"), " or ", link("#agents", "try one by a form"), "."))];
  }
  const to = (more = {}) => `#executions?${new URLSearchParams({ hours, ...more })}`;
  const of = (point, more = {}) => `#executions?${new URLSearchParams({ hours: size / 3600, end: (point.at + size) * 1000, ...more })}`;
  const when = (point) => short(new Date(point.at * 1000));
  const cards = [
    ["Requests", count(total.executions), total.refused ? `${count(total.refused)} more refused` : "asked of agents", to()],
    ["Failed", count(total.failures), share(total.failures, total.executions), to({ failed: true }), total.failures ? "bad" : ""],
    ["Degraded", count(total.degraded), share(total.degraded, total.executions), to({ degraded: true }), total.degraded ? "warn" : ""],
    ["Median latency", milliseconds(total.p50_ms), `95 % within ${milliseconds(total.p95_ms)}`, me.operator ? `#dashboards/slowest_executions?hours=${hours}` : to()],
    ["Tokens", count(tokens(total)), `${count(total.input_tokens)} in, ${count(total.output_tokens)} out`, me.operator ? `#dashboards/tokens_and_cost?hours=${hours}` : to()],
    ["Cost", dollars(total.cost_usd), `${dollars(total.executions ? total.cost_usd / total.executions : 0)} a request`, me.operator ? `#dashboards/tokens_and_cost?hours=${hours}` : to()],
  ];
  const ok = { name: "succeeded", kind: "main", value: (point) => point.executions };
  const degraded = { name: "degraded", kind: "warn", value: (point) => (point.degraded ? point.degraded + point.failures : 0) };
  const failed = { name: "failed", kind: "bad", value: (point) => point.failures };
  return [
    make("div", { class: "cards" }, cards.map(([name, value, note, href, kind]) =>
      make("a", { class: `card ${kind || ""}`, href }, make("span", { class: "soft" }, name), make("strong", {}, value), make("small", { class: "soft" }, note)))),
    make("div", { class: "charts" },
      bars({
        title: "Requests", points, hours, format: count, href: of,
        series: total.degraded ? [ok, degraded, failed] : [ok, failed],
        describe: (point) => `${when(point)}: ${point.executions} requests, ${point.failures} failed, ${point.degraded} degraded`,
      }),
      bars({
        title: "Latency", points, hours, format: milliseconds, href: of,
        series: [{ name: "95th percentile", kind: "pale", value: (point) => point.p95_ms }, { name: "median", kind: "main", value: (point) => point.p50_ms }],
        describe: (point) => `${when(point)}: median ${milliseconds(point.p50_ms)}, 95th percentile ${milliseconds(point.p95_ms)}`,
      }),
      tokens(total) ? bars({
        title: "Tokens", points, hours, format: count, href: of,
        series: [{ name: "in and out", kind: "pale", value: tokens }, { name: "out", kind: "main", value: (point) => point.output_tokens }],
        describe: (point) => `${when(point)}: ${point.input_tokens} tokens in, ${point.output_tokens} out`,
      }) : null,
      total.cost_usd ? bars({
        title: "Cost", points, hours, format: dollars, href: of,
        series: [{ name: "of models", kind: "main", value: (point) => point.cost_usd }],
        describe: (point) => `${when(point)}: ${dollars(point.cost_usd)}`,
      }) : null),
    section("By agent", byAgent(agents, to)),
  ];
}

const byAgent = (agents, to) => new Table("By agent", [
  { title: "Agent", cell: (row) => link(to({ agent: row.agent }), row.agent || "(unknown)") },
  { title: "Requests", number: true, cell: (row) => count(row.executions) },
  { title: "Failed", number: true, cell: (row) => (row.failures ? link(to({ agent: row.agent, failed: true }), badge("bad", `${count(row.failures)} · ${share(row.failures, row.executions)}`)) : "0") },
  { title: "Degraded", number: true, wide: true, cell: (row) => (row.degraded ? link(to({ agent: row.agent, degraded: true }), badge("warn", count(row.degraded))) : "0") },
  { title: "Refused", number: true, wide: true, cell: (row) => count(row.refused) },
  { title: "Median", number: true, cell: (row) => milliseconds(row.p50_ms) },
  { title: "p95", number: true, cell: (row) => milliseconds(row.p95_ms) },
  { title: "Tokens", number: true, wide: true, cell: (row) => count(tokens(row)) },
  { title: "Cost", number: true, wide: true, cell: (row) => dollars(row.cost_usd) },
]).update(agents);
