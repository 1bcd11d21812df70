// Charts by Vega-Lite, when the server has the library (extra `charts`). Expressions are interpreted, not compiled: the
// page's content security policy allows no code made of text.

const TIME = { field: "at", type: "temporal", title: null, axis: { labelOverlap: true, format: null } };
const BY_AGENT = { field: "agent_id", type: "nominal", title: null, sort: null };

const over = (title, fields, unit) => ({
  transform: [{ fold: Object.keys(fields), as: ["series", "value"] }, { calculate: `${JSON.stringify(fields)}[datum.series]`, as: "name" }],
  mark: { type: "line", point: { size: 14 }, tooltip: true, interpolate: "monotone" },
  encoding: {
    x: TIME,
    y: { field: "value", type: "quantitative", title: unit, axis: { tickMinStep: unit === "executions" ? 1 : undefined } },
    color: { field: "name", type: "nominal", title: null, scale: { domain: Object.values(fields) }, legend: { orient: "top" } },
  },
  title,
});
const bar = (title, category, field, unit, color, format) => ({
  mark: { type: "bar", tooltip: true },
  encoding: {
    y: { ...category, axis: { labelLimit: 160 } },
    x: { field, type: "quantitative", title: unit, axis: { format, tickCount: 5 } },
    ...(color ? { color: { field: color, type: "nominal", title: color.replaceAll("_", " "), legend: { orient: "top", columns: 2 } } } : {}),
  },
  title,
});

const CHARTS = {
  executions_over_time: [
    over("Executions", { executions: "all", failures: "failed" }, "executions"),
    over("Latency", { average_ms: "average", p95_ms: "95th percentile" }, "milliseconds"),
  ],
  error_rate_by_agent: [bar("Share of failed executions", BY_AGENT, "error_rate", "failed", null, "%")],
  tokens_and_cost: [
    bar("Tokens out", BY_AGENT, "output_tokens", "tokens", "model", "~s"),
    bar("Cost", BY_AGENT, "cost_usd", "US dollars", "model", "$~f"),
  ],
  prompt_versions: [bar("Average latency", { field: "prompt", type: "nominal", title: null }, "average_ms", "milliseconds")],
  tool_use: [bar("Calls", { field: "tool", type: "nominal", title: null, sort: "-x" }, "calls", "calls", null, "~s")],
};

// Its styles are in console.css, since the page takes none from scripts.
const OPTIONS = { mode: "vega-lite", ast: true, actions: false, renderer: "canvas", defaultStyle: false, tooltip: { disableDefaultStyle: true } };

let library = null;

function load(version) {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `console/vega.js?v=${encodeURIComponent(version)}`;
    script.onload = () => resolve(globalThis.vegaEmbed);
    script.onerror = () => { library = null; reject(new Error("The library of charts did not load.")); };
    document.head.append(script);
  });
  return library;
}

export const hasChart = (name) => name in CHARTS;

// Draws the dashboard's charts into `box`; rows as objects.
export async function draw(name, rows, box, version) {
  const embed = await load(version);
  for (const spec of CHARTS[name]) {
    const place = document.createElement("div");
    place.className = "vega";
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `Chart: ${spec.title}; its figures are in the table below`);
    box.append(place);
    const columns = box.clientWidth > 700 ? Math.min(2, CHARTS[name].length) : 1;
    const size = {
      width: Math.max(240, Math.floor(box.clientWidth / columns) - 32), height: spec.mark.type === "bar" ? { step: 26 } : 200,
      autosize: { type: spec.mark.type === "bar" ? "fit-x" : "fit", contains: "padding" },
    };
    await embed(place, { ...spec, ...size, data: { values: rows } }, { ...OPTIONS, config: theme() });
  }
}

function theme() {
  const style = getComputedStyle(document.body);
  const colour = (name) => resolved(style.getPropertyValue(name).trim());
  const [text, soft, line] = ["--text", "--soft", "--line"].map(colour);
  return {
    background: "transparent", font: style.fontFamily,
    axis: { labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
    legend: { labelColor: text, titleColor: soft, labelFontSize: 12, symbolType: "square" },
    title: { color: text, anchor: "start", fontSize: 14 }, view: { stroke: null },
    range: { category: ["--main", "--bad", "--warn", "--good", "--violet"].map(colour) }, bar: { color: colour("--main") },
  };
}

// light-dark() and the like as a plain colour, which canvas understands.
function resolved(value) {
  const probe = document.createElement("i");
  probe.style.color = value;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
