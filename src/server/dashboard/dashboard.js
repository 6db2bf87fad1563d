// The dashboard: one stream of events from the server, drawn as it comes. No library, no network but this host.

const $ = (id) => document.getElementById(id);
const COLOURS = 8;
const HISTORY_SECONDS = 300;
const SHORTEST_WINDOW = 30;
const RECENT_REQUESTS = 200;
const SHOWN_REQUESTS = 40;

const state = { models: [], slas: [], sla: "default", samples: [], requests: new Map(), key: sessionStorage.getItem("messplus-key") };

const headers = (more = {}) => (state.key ? { ...more, authorization: `Bearer ${state.key}` } : more);
const colour = (model) => `var(--c${Math.max(0, state.models.findIndex((m) => m.name === model)) % COLOURS})`;
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function joules(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(2)} MJ`;
  if (size >= 1e3) return `${(value / 1e3).toFixed(2)} kJ`;
  if (size >= 10) return `${value.toFixed(1)} J`;
  if (size >= 0.1 || size === 0) return `${value.toFixed(2)} J`;
  return size >= 1e-4 ? `${(1e3 * value).toFixed(1)} mJ` : `${(1e6 * value).toFixed(0)} µJ`;
}

function duration(ms) {
  if (!Number.isFinite(ms)) return "–";
  return ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
}

function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "text") made.textContent = value;
    else if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function drawn(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") made.style.cssText = value;
    else made.setAttribute(name, value);
  }
  if (text !== undefined) made.textContent = text;
  return made;
}

function swatch(paint) {
  const made = element("i");
  made.style.background = paint;
  return made;
}

// ---- charts ------------------------------------------------------------------------------------------------

// Round steps for an axis of at most `most` labels.
function ticks(low, high, most = 3) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? rough;
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Math.abs(at) < step * 1e-6 ? 0 : at);
  return found;
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1000) return `${+(value / 1000).toFixed(1)}k`;
  return `${+value.toPrecision(3)}`;
}

// `series`: [{values: [[t, y]], paint, fill?, dash?}]; the first of stacked ones is at the bottom already.
function chart(svg, series, { low, high, label = short } = {}) {
  const box = svg.getBoundingClientRect();
  const [width, height] = [Math.max(box.width, 60), Math.max(box.height, 40)];
  const [left, bottom, top] = [46, 16, 6];
  const all = series.flatMap((line) => line.values.map(([, y]) => y)).filter(Number.isFinite);
  let least = low ?? Math.min(...all);
  let most = high ?? Math.max(...all);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  if (all.length === 0) {
    svg.append(drawn("text", { x: left, y: height / 2 }, "nothing yet"));
    return;
  }
  if (!(most > least)) [least, most] = [least - 0.5, most + 0.5];
  if (low === undefined) least -= 0.06 * (most - least);
  if (high === undefined) most += 0.08 * (most - least);
  const times = series.flatMap((line) => line.values.map(([t]) => t));
  const now = Math.max(...times);
  const span = Math.min(HISTORY_SECONDS, Math.max(SHORTEST_WINDOW, now - Math.min(...times)));
  const x = (t) => left + (width - left - 2) * (1 - (now - t) / span);
  const y = (value) => top + (height - top - bottom) * (1 - (value - least) / (most - least));
  for (const at of ticks(least, most)) {
    svg.append(drawn("line", { x1: left, x2: width, y1: y(at), y2: y(at), class: "axis" }));
    svg.append(drawn("text", { x: left - 5, y: y(at) + 4, "text-anchor": "end" }, label(at)));
  }
  const ago = span >= 120 ? `${+(span / 60).toPrecision(2)} min ago` : `${Math.round(span)} s ago`;
  for (const [seconds, words] of [[span, ago], [0, "now"]]) {
    const anchor = seconds ? "start" : "end";
    svg.append(drawn("text", { x: x(now - seconds), y: height - 3, "text-anchor": anchor }, words));
  }
  for (const { values, paint, fill, dash, base } of series) {
    const points = values.filter(([t, value]) => Number.isFinite(value) && now - t <= span);
    if (points.length === 0) continue;
    const path = points.map(([t, value], n) => `${n ? "L" : "M"}${x(t).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    if (fill) {
      const under = (base ?? points.map(([t]) => [t, least])).filter(([t]) => now - t <= span);
      const back = under.reverse().map(([t, value]) => `L${x(t).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      svg.append(drawn("path", { d: `${path}${back}Z`, style: `fill:${paint};fill-opacity:.55;stroke:none` }));
    } else {
      const dashes = dash ? "stroke-dasharray:5 4;" : "";
      svg.append(drawn("path", { d: path, style: `fill:none;stroke:${paint};stroke-width:2;${dashes}` }));
    }
  }
}

function interval(svg, report) {
  const box = svg.getBoundingClientRect();
  const [width, height] = [Math.max(box.width, 60), 34];
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const [low, high] = report.interval ?? [report.alpha, report.alpha];
  const [from, to] = [Math.max(0, Math.min(low, report.alpha) - 0.05), Math.min(1, Math.max(high, report.alpha) + 0.05)];
  const x = (share) => 4 + ((width - 8) * (share - from)) / (to - from);
  svg.append(drawn("line", { x1: 4, x2: width - 4, y1: 12, y2: 12, class: "axis" }));
  if (report.interval) {
    svg.append(drawn("line", { x1: x(low), x2: x(high), y1: 12, y2: 12, style: "stroke:var(--c0);stroke-width:5;stroke-opacity:.45" }));
    svg.append(drawn("circle", { cx: x(report.satisfaction), cy: 12, r: 5, style: "fill:var(--c0)" }));
  }
  svg.append(drawn("line", { x1: x(report.alpha), x2: x(report.alpha), y1: 3, y2: 21, style: "stroke:var(--bad);stroke-width:2" }));
  const anchor = x(report.alpha) > width - 60 ? "end" : x(report.alpha) < 60 ? "start" : "middle";
  svg.append(drawn("text", { x: x(report.alpha), y: 32, "text-anchor": anchor }, `promised ${percent(report.alpha)}`));
}

// ---- panels ------------------------------------------------------------------------------------------------

const report = (sample) => sample.slas.find((sla) => sla.sla === state.sla) ?? sample.slas[0];

function drawPromise(sample) {
  const now = report(sample);
  const series = (of) => state.samples.map((each) => [each.t, of(report(each))]);
  const known = now.satisfaction !== null && now.satisfaction !== undefined;
  $("satisfaction").textContent = known ? percent(now.satisfaction) : "–";
  $("satisfaction").className = !known ? "" : now.satisfaction >= now.alpha ? "good" : "bad";
  $("alpha").textContent = `promised ${percent(now.alpha)}`;
  interval($("interval"), now);
  chart($("satisfaction-chart"), [
    { values: series((sla) => sla.alpha), paint: "var(--bad)", dash: true },
    { values: series((sla) => sla.satisfaction ?? NaN), paint: "var(--c0)" },
  ], { label: (share) => `${+(100 * share).toPrecision(3)} %` });
  const words = !now.feasible ? "No choice of models can keep this promise: lower it or add a better model."
    : !known ? "Nothing judged yet: send feedback, or a reference with the request."
    : `${Math.round(now.judged)} of ${now.requests} requests judged; with 95 % confidence between ${percent(now.interval[0])} and ${percent(now.interval[1])}.`;
  $("promise-words").textContent = words;
  $("promise-words").className = now.feasible ? "quiet" : "bad";
  $("queue").textContent = now.queue.toFixed(1);
  chart($("queue-chart"), [
    { values: series(() => 0), paint: "var(--quiet)", dash: true },
    { values: series((sla) => sla.queue), paint: "var(--c3)" },
  ]);
  $("explore-words").textContent = now.warming ? "Getting to know the models: some are asked beside the one that answers."
    : `${percent(now.explored_share)} of the requests also asked another model, to learn.`;
}

function drawWatts(sample) {
  const of = (each) => each.watts ?? {};
  const total = sample.devices.reduce((sum, device) => sum + device.watts, 0);
  $("watts").textContent = `${total.toFixed(1)} W`;
  const parts = [["idle", "var(--c7)"], ["requests", "var(--c0)"], ["exploration", "var(--c1)"], ["router and other", "var(--c3)"]];
  let base = state.samples.map((each) => [each.t, 0]);
  const series = parts.map(([part, paint]) => {
    const values = state.samples.map((each, n) => [each.t, (of(each)[part] ?? 0) + base[n][1]]);
    const made = { values, paint, fill: true, base };
    base = values;
    return made;
  });
  chart($("watts-chart"), series.map((line) => ({ ...line, base: [...line.base] })), { low: 0 });
  $("watts-legend").replaceChildren(...parts.map(([part, paint]) => element("li", {}, swatch(paint), part)));
  const split = of(sample);
  $("watts-split").textContent = split.idle === undefined ? "" : `${split.idle.toFixed(1)} W of it idle`;
  const modelled = sample.devices.some((device) => device.source === "modelled");
  $("meter").textContent = sample.devices.map((device) => `${device.device}: ${device.meter}`).join("; ");
  $("meter-words").textContent = modelled ? "here they are modelled from busy time, not measured." : "they add up to it.";
}

function recent() {
  return [...state.requests.values()].filter((request) => request.finish_reason === "stop" || request.finish_reason === "length");
}

function drawJoules(sample) {
  const now = report(sample);
  const known = now.models.filter((model) => model.requests > 0 || model.exploration_joules > 0);
  const most = Math.max(...known.map((model) => model.mean_joules), 1e-12);
  $("joules").replaceChildren(...known.flatMap((model) => {
    const bar = element("div", { class: "bar" });
    bar.style.width = `${(100 * model.mean_joules) / most}%`;
    bar.style.background = colour(model.model);
    return [element("span", { text: model.model }), bar, element("span", { class: "value", text: joules(model.mean_joules) })];
  }));
  const answered = now.models.reduce((sum, model) => sum + model.requests, 0);
  const spent = now.models.reduce((sum, model) => sum + model.joules + model.exploration_joules, 0);
  $("joules-words").textContent = answered ? `${joules(spent / answered)} a request over all ${answered}, learning included` : "nothing answered yet";
}

function drawShare(sample) {
  const now = report(sample);
  const svg = $("share");
  svg.replaceChildren();
  svg.setAttribute("viewBox", "0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  let at = 0;
  for (const model of now.models) {
    svg.append(drawn("rect", { x: at, y: 0, width: 100 * model.share, height: 10, style: `fill:${colour(model.model)}` }));
    at += 100 * model.share;
  }
  $("share-legend").replaceChildren(...now.models.map((model) =>
    element("li", {}, swatch(colour(model.model)), `${model.model} ${percent(model.share)}, right ${percent(model.satisfaction)} ± ${(196 * model.satisfaction_sd).toFixed(0)}`)));
  $("share-words").textContent = `${now.requests} requests by ${now.policy}`;
}

function drawSpeed(sample) {
  const rate = (phase) => state.samples.map((each) => [each.t, each.rates ? each.rates[phase] : NaN]);
  $("decode-rate").textContent = sample.rates ? short(sample.rates.decode) : "–";
  $("prefill-rate").textContent = sample.rates ? short(sample.rates.prefill) : "–";
  chart($("speed-chart"), [
    { values: rate("prefill"), paint: "var(--c4)" },
    { values: rate("decode"), paint: "var(--c2)" },
  ], { low: 0 });
  const of = (part) => recent().map((request) => request.timing[part]).filter(Number.isFinite).sort((a, b) => a - b);
  const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  const [first, total] = [of("first_token_ms"), of("total_ms")];
  const running = sample.models.reduce((sum, model) => sum + model.running, 0);
  const waiting = sample.models.reduce((sum, model) => sum + model.waiting, 0);
  $("latency").textContent = total.length
    ? `first token ${duration(at(first, 0.5))}, answer ${duration(at(total, 0.5))} (95 %: ${duration(at(total, 0.95))}); ${running} running, ${waiting} waiting`
    : `${running} running, ${waiting} waiting`;
}

function draw() {
  const sample = state.samples.at(-1);
  if (!sample) return;
  drawPromise(sample);
  drawWatts(sample);
  drawJoules(sample);
  drawShare(sample);
  drawSpeed(sample);
}

// ---- requests ----------------------------------------------------------------------------------------------

// Why this model, in words.
function why(request) {
  const decision = request.decision;
  if (!decision || !decision.satisfaction) return "the client named the model";
  const chance = (model) => `${Math.round(100 * decision.satisfaction[model])} %`;
  const others = Object.keys(decision.satisfaction).map((model) =>
    `${model}: right in ${chance(model)}, expected ${joules(decision.expected_joules[model])}`);
  const reason = decision.explored
    ? decision.explore?.length ? `asked ${decision.explore.join(" and ")} too, to learn` : "chosen to learn"
    : decision.price > 0 ? `cheapest once a right answer is worth ${decision.price.toFixed(2)} of the dearest model's`
    : "cheapest that the promise allows";
  return `${reason} · ${others.join(" · ")} · queue ${decision.queue.toFixed(1)}`;
}

async function judge(request, satisfied) {
  const answer = await fetch("v1/feedback", {
    method: "POST", headers: headers({ "content-type": "application/json" }),
    body: JSON.stringify({ request_id: request.id, satisfied }),
  });
  if (answer.ok) request.feedback = { satisfied: satisfied ? 1 : 0, source: "user" };
  else request.refused = (await answer.json()).error?.message ?? `error ${answer.status}`;
  drawRequests();
}

// A thumb, since not every machine has a font with one.
function thumb(up) {
  const icon = drawn("svg", { viewBox: "0 0 16 16", width: 15, height: 15, "aria-hidden": "true" });
  icon.append(drawn("path", {
    d: "M1.5 7h2.6v7H1.5zM5.3 7.2 8.4 1c1.3.1 2 1 1.8 2.3L9.8 6h3.6c.9 0 1.4.8 1.2 1.6l-1.3 5.3c-.2.7-.7 1.1-1.4 1.1H5.3z",
    style: "fill:currentColor", transform: up ? "" : "rotate(180 8 8)",
  }));
  return icon;
}

function thumbs(request) {
  const told = request.feedback;
  const button = (satisfied, words) => {
    const made = element("button", { type: "button", title: words, "aria-label": words, "aria-pressed": String(told?.satisfied === (satisfied ? 1 : 0)), onclick: () => judge(request, satisfied) }, thumb(satisfied));
    made.disabled = Boolean(told);
    return made;
  };
  const note = request.refused ? element("span", { class: "bad", text: request.refused })
    : told && told.source !== "user" ? element("span", { class: "quiet", text: `by ${told.source}` }) : "";
  return element("span", { class: "thumbs" }, note, button(true, "satisfied"), button(false, "not satisfied"));
}

function row(request) {
  const spent = request.energy.prefill_joules + request.energy.decode_joules;
  const learnt = request.energy.exploration_joules;
  const cost = `${joules(spent)}${request.energy.final ? "" : "…"}${learnt > 0 ? ` + ${joules(learnt)} to learn` : ""} · ${duration(request.timing.total_ms ?? NaN)}`;
  const model = element("span", { class: "model", text: request.model });
  model.style.color = colour(request.model);
  const ended = request.finish_reason === "stop" ? "" : ` (${request.finish_reason})`;
  return element("article", { class: "request" },
    element("div", { class: "what" }, model, ` ${request.input_text.trim()}${ended}`),
    element("div", { class: "cost", text: cost }),
    element("div", { class: "why", text: why(request) }),
    request.finish_reason === "stop" || request.finish_reason === "length" ? thumbs(request) : element("span"));
}

let listDue = false;
function drawRequests() {
  if (listDue) return;
  listDue = true;
  requestAnimationFrame(() => {
    listDue = false;
    const shown = [...state.requests.values()].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, SHOWN_REQUESTS);
    if (shown.length) $("requests").replaceChildren(...shown.map(row));
  });
}

function keep(request) {
  const before = state.requests.get(request.id);
  state.requests.set(request.id, { ...before, ...request, feedback: request.feedback ?? before?.feedback });
  if (state.requests.size > RECENT_REQUESTS) {
    const oldest = [...state.requests.keys()].sort()[0];
    state.requests.delete(oldest);
  }
  drawRequests();
}

// ---- the stream --------------------------------------------------------------------------------------------

function sample(now) {
  const before = state.samples.at(-1);
  if (before && now.t > before.t) {
    const seconds = now.t - before.t;
    const grown = (part) => now.devices.reduce((sum, device, n) => sum + device[part] - (before.devices[n]?.[part] ?? 0), 0);
    const per = (part) => Math.max(0, grown(part) / seconds);
    now.watts = {
      idle: per("idle_joules"), requests: per("request_joules"), exploration: per("exploration_joules"),
      "router and other": per("router_joules") + per("load_joules") + per("unattributed_joules"),
    };
    const tokens = (phase) => now.models.reduce((sum, model, n) => sum + model[phase] - (before.models[n]?.[phase] ?? 0), 0);
    now.rates = { prefill: Math.max(0, tokens("prefill_tokens") / seconds), decode: Math.max(0, tokens("decode_tokens") / seconds) };
  }
  state.samples.push(now);
  while (state.samples.length && now.t - state.samples[0].t > HISTORY_SECONDS + 5) state.samples.shift();
  draw();
}

function hello(said) {
  state.models = said.models;
  state.slas = said.slas;
  state.samples = [];
  const targets = ["auto", ...said.slas.filter((sla) => sla !== "default").map((sla) => `auto:${sla}`), ...said.models.map((model) => model.name)];
  if ($("target").options.length === 0) $("target").replaceChildren(...targets.map((name) => element("option", { text: name, value: name })));
  if (!said.slas.includes(state.sla)) state.sla = said.slas[0];
  $("promise").replaceChildren(...said.slas.map((name) => element("option", { text: name, value: name })));
  $("promise").value = state.sla;
  $("promise-choice").hidden = said.slas.length < 2;
  said.requests.forEach(keep);
}

const heard = { hello, sample, request: keep, feedback: ({ id, feedback }) => state.requests.has(id) && keep({ ...state.requests.get(id), feedback }) };

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const field = (name) => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart()).join("\n");
      if (field("data")) yield { kind: field("event"), data: field("data") };
    }
  }
}

function link(kind, words) {
  $("link").dataset.state = kind;
  $("link").textContent = words;
}

async function listen() {
  let pause = 500;
  for (;;) {
    try {
      const answer = await fetch("v1/live", { headers: headers({ accept: "text/event-stream" }) });
      if (answer.status === 401) {
        link("lost", "locked");
        await key(state.key ? "That key is not known here." : "");
        continue;
      }
      if (!answer.ok) throw new Error(answer.status === 503 ? "loading" : `error ${answer.status}`);
      link("live", "live");
      pause = 500;
      for await (const { kind, data } of events(answer.body)) heard[kind]?.(JSON.parse(data));
      link("lost", "reconnecting");
    } catch (error) {
      link("lost", error.message === "loading" ? "models are loading" : "reconnecting");
    }
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(2 * pause, 8000);
  }
}

function key(problem) {
  $("door").hidden = false;
  $("door-error").textContent = problem;
  return new Promise((done) => {
    $("door").onsubmit = (event) => {
      event.preventDefault();
      state.key = $("key").value;
      sessionStorage.setItem("messplus-key", state.key);
      $("door").hidden = true;
      done();
    };
  });
}

// ---- asking ------------------------------------------------------------------------------------------------

$("promise").addEventListener("change", () => { state.sla = $("promise").value; draw(); });
addEventListener("resize", draw);

$("chat").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question) return;
  $("question").value = "";
  const answer = element("p", { class: "said", text: "…" });
  const bill = element("p", { class: "quiet" });
  $("talk").append(element("p", { class: "said you", text: question }), answer, bill);
  $("talk").scrollTop = $("talk").scrollHeight;
  try {
    const response = await fetch("v1/chat/completions", {
      method: "POST", headers: headers({ "content-type": "application/json" }),
      body: JSON.stringify({ model: $("target").value, stream: true, messages: [{ role: "user", content: question }] }),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    let text = "";
    for await (const { data } of events(response.body)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      text += chunk.choices?.[0]?.delta?.content ?? "";
      answer.textContent = text || "…";
      const said = chunk.messplus;
      if (said) {
        const learnt = said.energy.exploration_joules > 0 ? `, and ${joules(said.energy.exploration_joules)} to learn` : "";
        bill.textContent = `${said.model} · ${joules(said.energy.joules)} ${said.energy.source}${said.energy.final ? "" : ", provisional"}${learnt} · ${duration(said.timing.total_ms)}`;
      }
      $("talk").scrollTop = $("talk").scrollHeight;
    }
    if (!text) answer.textContent = "(an empty answer)";
  } catch (error) {
    answer.textContent = error.message;
    answer.className = "said bad";
  }
});

listen();
