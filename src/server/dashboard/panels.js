// Everything about the server as a whole: what each sample says.

import { chart, interval } from "./charts.js";
import { $, duration, element, joules, percent, plural, say, short, swatch } from "./words.js";

const COLOURS = 8;
const WATTS = [["idle", "var(--c7)"], ["requests", "var(--c0)"], ["exploration", "var(--c1)"], ["router, other", "var(--c3)"]];

export const colour = (state, model) => `var(--c${Math.max(0, state.models.findIndex((known) => known.name === model)) % COLOURS})`;

export function draw(state) {
  const sample = state.samples.at(-1);
  if (!sample) return;
  const report = (each) => each.slas.find((sla) => sla.sla === state.sla) ?? each.slas[0];
  drawPromise(state, report);
  drawQueue(state, report);
  drawWatts(state, sample);
  drawModels(state, report(sample), sample);
  drawSpeed(state, sample);
}

// A rate below the promise is a breach only once chance can no longer be the reason.
function standing({ satisfaction, alpha, interval: bounds, feasible }) {
  if (!feasible) return ["bad", "out of reach", "No choice of these models can keep this promise: lower it, or add a better model."];
  if (satisfaction === null || satisfaction === undefined) return ["quiet", "no verdict yet", "Nothing judged yet: use the thumbs, or send a reference with the request."];
  if (satisfaction >= alpha) return ["good", "kept", null];
  return bounds[1] >= alpha ? ["close", "close", null] : ["bad", "missed", null];
}

function drawPromise(state, report) {
  const now = report(state.samples.at(-1));
  const series = (of) => state.samples.map((each) => [each.t, of(report(each))]);
  const [kind, word, instead] = standing(now);
  say($("satisfaction"), percent(now.satisfaction ?? NaN), kind);
  say($("standing"), word, `pill ${kind}`);
  interval($("interval"), { alpha: now.alpha, satisfaction: now.satisfaction, bounds: now.interval, label: `promised ${percent(now.alpha)}` });
  chart($("satisfaction-chart"), {
    lines: [
      { name: "promised", values: series((sla) => sla.alpha), paint: "var(--mark)", dash: true },
      { name: "satisfied", values: series((sla) => sla.satisfaction ?? NaN), paint: "var(--c0)" },
    ],
    band: { values: state.samples.map((each) => [each.t, ...(report(each).interval ?? [NaN, NaN])]), paint: "var(--c0)" },
    label: (share) => `${+(100 * share).toPrecision(3)} %`,
  });
  const words = instead ?? `${short(Math.round(now.judged))} of ${plural(now.requests, "request")} judged: between ${percent(now.interval[0])} and ${percent(now.interval[1])}, with 95 % confidence.`;
  say($("promise-words"), words, kind === "bad" ? "bad small" : "quiet small");
  $("satisfaction-chart").setAttribute("aria-label", `satisfied answers over time, now ${percent(now.satisfaction ?? NaN)} of ${percent(now.alpha)} promised`);
}

function drawQueue(state, report) {
  const now = report(state.samples.at(-1));
  say($("queue"), now.queue.toFixed(1));
  const ahead = now.queue < -0.05 ? "ahead of the promise" : now.queue > 0.05 ? "behind the promise" : "level with the promise";
  say($("queue-words"), `requests, ${ahead}`);
  chart($("queue-chart"), {
    lines: [
      { values: state.samples.map((each) => [each.t, 0]), paint: "var(--mark)", dash: true },
      { name: "queue", values: state.samples.map((each) => [each.t, report(each).queue]), paint: "var(--c3)" },
    ],
  });
  $("queue-chart").setAttribute("aria-label", `virtual queue over time, now ${now.queue.toFixed(1)} requests, ${ahead}`);
  const price = now.price > 0 ? ` A satisfied answer is worth ${now.price.toFixed(2)} of the dearest model's joules.` : "";
  const learning = now.warming ? "Getting to know the models: others are asked beside the one that answers." : `${percent(now.explored_share)} of requests also asked another model, to learn.`;
  say($("explore-words"), learning + price);
}

function drawWatts(state, sample) {
  const split = sample.watts;
  // Over the last second like its parts, so that they add up to it; before that the meter's own word.
  const total = split ? WATTS.reduce((sum, [part]) => sum + split[part], 0) : sample.devices.reduce((sum, device) => sum + device.watts, 0);
  say($("watts"), `${total.toFixed(1)} W`);
  let base = state.samples.map((each) => [each.t, 0]);
  const lines = WATTS.map(([part, paint]) => {
    const values = state.samples.map((each, n) => [each.t, (each.watts?.[part] ?? NaN) + base[n][1]]);
    const line = { name: part, values, paint, base };
    base = values;
    return line;
  });
  chart($("watts-chart"), { lines, low: 0, label: (watts) => `${short(watts)} W` });
  say($("watts-split"), split ? `${split.idle.toFixed(1)} W idle, ${(total - split.idle).toFixed(1)} W attributed` : "");
  $("watts-legend").replaceChildren(...WATTS.map(([part, paint]) => element("li", {}, swatch(paint), part)));
  $("watts-chart").setAttribute("aria-label", `power over time, now ${total.toFixed(1)} watts`);
  say($("meter"), sample.devices.map((device) => `${device.device}: ${device.meter}`).join("; "));
  const alarms = sample.devices.filter((device) => device.alarms.length).map((device) => `${device.device} ${device.alarms.at(-1)}`);
  say($("alarm"), alarms.join("; "));
  $("alarm").hidden = alarms.length === 0;
  const modelled = sample.devices.some((device) => device.source === "modelled");
  say($("meter-words"), modelled ? "here they are modelled from busy time, not measured." : "they add up to it.");
}

// One line a model: its share, how often it is right, what an answer costs, and what it is doing.
function drawModels(state, now, sample) {
  const most = Math.max(...now.models.map((model) => model.mean_joules), 1e-12);
  const stack = $("share");
  stack.replaceChildren(...now.models.filter((model) => model.share > 0).map((model) => {
    const part = element("span");
    part.style.flexGrow = model.share;
    part.style.background = colour(state, model.model);
    return part;
  }));
  stack.setAttribute("aria-label", now.models.map((model) => `${model.model} ${percent(model.share)}`).join(", "));
  $("models").replaceChildren(...now.models.map((model, n) => {
    const lane = sample.models[n] ?? {};
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${(100 * model.mean_joules) / most}%`;
    bar.style.background = colour(state, model.model);
    const busy = lane.running || lane.waiting ? `${lane.running} running${lane.waiting ? `, ${lane.waiting} waiting` : ""}` : "idle";
    return element("tr", {},
      element("th", { scope: "row" }, swatch(colour(state, model.model)), model.model),
      element("td", { text: percent(model.share) }),
      element("td", {}, percent(model.satisfaction, 0), element("span", { class: "quiet", text: ` ± ${(196 * model.satisfaction_sd).toFixed(0)}` })),
      element("td", { class: "meter" }, element("span", {}, element("span", { class: "track" }, bar), element("span", { class: "value", text: joules(model.mean_joules) }))),
      element("td", { class: "quiet wide-only", text: busy }));
  }));
  const answered = now.models.reduce((sum, model) => sum + model.requests, 0);
  const spent = now.models.reduce((sum, model) => sum + model.joules + model.exploration_joules, 0);
  const dearest = now.models.reduce((best, model) => (model.mean_joules > best.mean_joules ? model : best), now.models[0]);
  const saved = 1 - spent / (answered * dearest.mean_joules);
  const against = dearest.requests > 0 && now.models.length > 1 && answered >= 20
    ? ` About ${percent(Math.abs(saved), 0)} ${saved >= 0 ? "less" : "more"} than ${dearest.model} for all, at its mean.` : "";
  say($("models-words"), answered ? `${joules(spent / answered)} a request over ${plural(answered, "request")} by ${now.policy}, learning included.${against}` : "Nothing answered yet.");
}

function drawSpeed(state, sample) {
  const rate = (phase) => state.samples.map((each) => [each.t, each.rates ? each.rates[phase] : NaN]);
  say($("decode-rate"), short(sample.rates?.decode ?? NaN));
  say($("prefill-rate"), short(sample.rates?.prefill ?? NaN));
  chart($("speed-chart"), {
    lines: [
      { name: "read", values: rate("prefill"), paint: "var(--c4)" },
      { name: "generated", values: rate("decode"), paint: "var(--c2)" },
    ],
    low: 0,
  });
  $("speed-chart").setAttribute("aria-label", `tokens a second over time, now ${short(sample.rates?.decode ?? NaN)} generated and ${short(sample.rates?.prefill ?? NaN)} read`);
  const ended = [...state.requests.values()].filter((request) => request.finish_reason === "stop" || request.finish_reason === "length");
  const at = (part, share) => {
    const sorted = ended.map((request) => request.timing[part]).filter(Number.isFinite).sort((a, b) => a - b);
    return duration(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
  };
  $("latency").replaceChildren(
    element("tr", {}, element("th", { scope: "row", text: "first token" }), element("td", { text: at("first_token_ms", 0.5) }), element("td", { text: at("first_token_ms", 0.95) })),
    element("tr", {}, element("th", { scope: "row", text: "whole answer" }), element("td", { text: at("total_ms", 0.5) }), element("td", { text: at("total_ms", 0.95) })));
  say($("latency-words"), ended.length ? `of the last ${plural(ended.length, "request")}` : "no request yet");
}
