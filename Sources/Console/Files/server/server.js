// The server's figures, live.
import { get, text } from "/console/api.js";
import { fill, h } from "/console/dom.js";
import { chart } from "/console/chart.js";
import { bytes, count, decimal, seconds } from "/console/format.js";
import { histogram, parse, quantile, sum, values } from "/console/metrics.js";

const period = 2000;
const samplesKept = 150;
/** Latencies are those of the last so many samples. */
const latencyWindow = 15;

/** Samples outlive the page, so that the charts continue after a visit to another. */
const samples = [];

export function serverPage(main, { signal }) {
  const figures = h("div", { class: "figures" });
  const ago = (value) => (value === 0 ? "now" : `${Math.round(value)} s`);
  const charts = {
    tokens: chart({ title: "Tokens per second", span: 60, x: ago }),
    requests: chart({ title: "Requests", span: 60, x: ago }),
    first: chart({ title: "Time to the first token", span: 60, x: ago, y: seconds }),
    between: chart({ title: "Time between tokens", span: 60, x: ago, y: seconds }),
    batch: chart({ title: "Rows of a pass", span: 60, x: ago }),
    memory: chart({ title: "Keys and values in memory", span: 60, x: ago, y: bytes }),
  };
  const adapters = h("div", { class: "card" }, h("h2", {}, "By adapter"));
  const table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Figures by adapter" });
  adapters.append(table);
  const build = h("p", { class: "muted" });
  const problem = h("p", { class: "bad" });
  fill(main, h("div", { class: "frame" },
    h("div", { class: "title" }, h("h1", {}, "Server"), build), problem, figures,
    h("div", { class: "charts" }, Object.values(charts).map((entry) => entry.element)), adapters));

  async function sample() {
    if (document.hidden && samples.length > 0) return;
    try {
      const [page, list] = await Promise.all([text("/metrics", { signal }), get("/v1/adapters?limit=1", { signal })]);
      samples.push({ time: performance.now() / 1000, metrics: parse(page), budget: list.memory.budget });
      samples.splice(0, samples.length - samplesKept);
      problem.textContent = "";
      show();
    } catch (error) {
      if (error.name !== "AbortError") problem.textContent = error.message;
    }
  }

  function show() {
    const { metrics, budget } = samples.at(-1);
    const [info] = metrics.get("graft_build_info") ?? [];
    if (info) build.textContent = `${info.labels.version} · ${info.labels.compute} · ${info.labels.kernels}`;
    const recent = histogram(metrics, "graft_time_to_first_token_seconds", before(latencyWindow)?.metrics);
    const gaps = histogram(metrics, "graft_inter_token_latency_seconds", before(latencyWindow)?.metrics);
    const rate = (name) => rates(name).at(-1)?.[1];
    const queries = sum(metrics, "graft_prefix_cache_queries_total");
    const drafts = sum(metrics, "graft_draft_tokens_total");
    const entries = [
      ["Generated", `${decimal(rate("graft_generated_tokens_total") ?? 0)} tok/s`],
      ["Prompts", `${decimal(rate("graft_prompt_tokens_total") ?? 0)} tok/s`],
      ["Running", count(sum(metrics, "graft_requests_running"))],
      ["Waiting", count(sum(metrics, "graft_queue_length"))],
      ["First token p50 / p95", pair(recent)],
      ["Gap p50 / p95", pair(gaps)],
      ["Keys and values", `${bytes(kv(metrics, "used"))} of ${bytes(kv(metrics, "total"))}`],
      [`Adapters in memory: ${count(sum(metrics, "graft_adapters_loaded"))}`, `${bytes(sum(metrics, "graft_adapter_memory_bytes"))} of ${bytes(budget)}`],
      ["Prefix cache hits", queries > 0 ? `${Math.round((100 * sum(metrics, "graft_prefix_cache_hits_total")) / queries)} %` : "–"],
      ["Tokens from the cache", count(sum(metrics, "graft_prefix_cache_hit_tokens_total"))],
      ["Drafts accepted", drafts > 0 ? `${Math.round((100 * sum(metrics, "graft_draft_tokens_accepted_total")) / drafts)} %` : "–"],
      ["Preempted", count(sum(metrics, "graft_preemptions_total"))],
    ];
    fill(figures, entries.map(([name, value]) => h("div", { class: "figure" }, h("span", {}, name), h("strong", {}, value))));
    charts.tokens.draw([
      { name: "generated", points: rates("graft_generated_tokens_total") }, { name: "prompts", points: rates("graft_prompt_tokens_total") },
    ]);
    charts.requests.draw([
      { name: "running", points: series((entry) => sum(entry.metrics, "graft_requests_running")) },
      { name: "waiting", points: series((entry) => sum(entry.metrics, "graft_queue_length")) },
    ]);
    charts.first.draw(percentiles("graft_time_to_first_token_seconds"));
    charts.between.draw(percentiles("graft_inter_token_latency_seconds"));
    charts.batch.draw([{ name: "mean", points: series((entry, old) => mean(entry, old, "graft_batch_rows")) }]);
    charts.memory.draw(["used", "cached", "total"].map((state) => ({
      name: state, dashed: state === "total", points: series((entry) => kv(entry.metrics, state)),
    })));
    showAdapters(metrics);
  }

  function showAdapters(metrics) {
    const names = values(metrics, "graft_generated_tokens_total", "adapter");
    if (names.length === 0) return fill(table, h("p", { class: "empty" }, "No requests since the server started."));
    const old = before(5)?.metrics;
    const span = samples.at(-1).time - (before(5)?.time ?? 0);
    const head = ["Adapter", "Requests", "Failed", "Waiting", "Prompt tokens", "Generated tokens", "Tokens/s"];
    fill(table, h("table", {},
      h("thead", {}, h("tr", {}, head.map((name, i) => h("th", { class: i ? "number" : undefined, scope: "col" }, name)))),
      h("tbody", {}, names.map((adapter) => {
        const of = (name, more, page = metrics) => sum(page, name, { adapter, ...more });
        const failed = ["timeout", "rejected", "failed"].reduce((total, outcome) => total + of("graft_requests_total", { outcome }), 0);
        const speed = old ? (of("graft_generated_tokens_total") - of("graft_generated_tokens_total", {}, old)) / span : 0;
        const cells = [of("graft_requests_total"), failed, of("graft_queue_length"), of("graft_prompt_tokens_total"), of("graft_generated_tokens_total")];
        return h("tr", {}, h("td", { class: "name" }, adapter), cells.map((value) => h("td", { class: "number" }, count(value))),
          h("td", { class: "number" }, decimal(speed)));
      }))));
  }

  const timer = setInterval(sample, period);
  signal.addEventListener("abort", () => clearInterval(timer));
  if (samples.length > 0) show();
  sample();
}

/** The sample `steps` before the newest one, or the oldest. */
function before(steps, index = samples.length - 1) {
  return index > 0 ? samples[Math.max(0, index - steps)] : null;
}

/** Points of a value of each sample, and the one before it. */
function series(value) {
  const now = samples.at(-1).time;
  return samples.map((entry, index) => [entry.time - now, value(entry, samples[index - 1], index)]);
}

function rates(name) {
  return series((entry, old) => (old ? Math.max(0, sum(entry.metrics, name) - sum(old.metrics, name)) / (entry.time - old.time) : NaN));
}

function percentiles(name) {
  return [0.5, 0.95, 0.99].map((share) => ({
    name: `p${share * 100}`,
    points: series((entry, _, index) => (index === 0 ? NaN : quantile(histogram(entry.metrics, name, before(latencyWindow, index).metrics), share))),
  }));
}

function mean(entry, old, name) {
  const { sum: total, count: number } = histogram(entry.metrics, name, old?.metrics ?? null);
  return old && number > 0 ? total / number : NaN;
}

function kv(metrics, state) {
  return sum(metrics, "graft_kv_bytes", { state });
}

function pair(observations) {
  if (observations.count === 0) return "–";
  return `${seconds(quantile(observations, 0.5))} / ${seconds(quantile(observations, 0.95))}`;
}
