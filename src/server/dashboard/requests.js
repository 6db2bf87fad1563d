// The list of requests: who answered, at what price, and why; and the thumbs.

import { colour } from "./panels.js";
import { $, drawn, duration, element, joules, percent, say, swatch } from "./words.js";

const KEPT = 200;
const SHOWN = 40;
const RHYTHM_MS = 250;

export const isAnswered = (request) => request.finish_reason === "stop" || request.finish_reason === "length";

export function spent(request) {
  const { prefill_joules: prefill, decode_joules: decode, exploration_joules: learnt, final } = request.energy;
  return { answer: prefill + decode, learnt, final };
}

// Why this model: what it has over the next cheaper and the next dearer one.
export function why(request) {
  const decision = request.decision;
  if (!decision || !decision.satisfaction) return "The client named the model.";
  const also = decision.explore?.length ? ` ${decision.explore.join(" and ")} answered too, unseen, to learn.` : "";
  if (decision.explored && !also) return "Chosen to learn how good it is.";
  const [chosen, right, cost] = [request.model, decision.satisfaction, decision.expected_joules];
  const order = Object.keys(cost).sort((a, b) => cost[a] - cost[b]);
  const at = order.indexOf(chosen);
  const [cheaper, dearer] = [order[at - 1], order[at + 1]];
  const over = (model) => Math.round(100 * (right[chosen] - right[model]));
  const reasons = [];
  if (cheaper) {
    const more = joules(cost[chosen] - cost[cheaper]);
    reasons.push(over(cheaper) > 0 ? `${points(over(cheaper))} surer than ${cheaper} for ${more} more` : `less is known of ${cheaper}, which would save ${more}`);
  }
  if (dearer) {
    const times = `${(cost[dearer] / cost[chosen]).toFixed(1)} × cheaper than ${dearer}`;
    reasons.push(`${times}, which is ${over(dearer) < 0 ? points(-over(dearer)) : "no"} surer`);
  }
  return `${reasons.join("; ") || "the only model"}.${also}`;
}

const points = (count) => `${count} point${count === 1 ? "" : "s"}`;

// A thumb, since not every machine has a font with one.
function thumb(up) {
  const icon = drawn("svg", { viewBox: "0 0 16 16", width: 15, height: 15, "aria-hidden": "true" });
  icon.append(drawn("path", {
    d: "M1.5 7h2.6v7H1.5zM5.3 7.2 8.4 1c1.3.1 2 1 1.8 2.3L9.8 6h3.6c.9 0 1.4.8 1.2 1.6l-1.3 5.3c-.2.7-.7 1.1-1.4 1.1H5.3z",
    fill: "currentColor", transform: up ? "" : "rotate(180 8 8)",
  }));
  return icon;
}

// Two buttons that send a verdict on a request. `show(request)` afterwards makes them agree with what is known of it.
export function thumbs(id, subject, send) {
  const note = element("span", { class: "quiet small", role: "status" });
  let told = null;
  const tell = async (satisfied) => {
    if (told) return;
    const problem = await send(id, satisfied);
    if (problem) say(note, problem, "bad small");
  };
  const buttons = [true, false].map((satisfied) => {
    const words = satisfied ? "satisfied" : "not satisfied";
    const label = `${words}: ${subject}`;
    return element("button", { type: "button", class: "thumb", title: words, "aria-label": label, "aria-pressed": "false", onclick: () => tell(satisfied) }, thumb(satisfied));
  });
  const shown = element("span", { class: "thumbs" }, note, ...buttons);
  shown.show = (request) => {
    told = judged(request);
    // Disabled outright they would drop the keyboard's place.
    buttons.forEach((button, n) => {
      button.setAttribute("aria-pressed", String(told?.satisfied === (n === 0 ? 1 : 0)));
      button.setAttribute("aria-disabled", String(Boolean(told)));
      if (told && told.source !== "user") button.title = `judged by the ${told.source}`;
    });
  };
  return shown;
}

const verdict = (answer) => (answer?.label === null || answer?.label === undefined ? "" : answer.label >= 0.5 ? "right" : "wrong");

// The verdict that stands: a user's, or that of the reference which came with the request.
function judged(request) {
  const own = request.answers?.find((answer) => answer.model === request.model);
  const reference = own?.label_source === "reference" ? { satisfied: own.label, source: "reference" } : null;
  return request.feedback ?? reference;
}

function details(state, request) {
  const decision = request.decision;
  const made = new Map((request.answers ?? []).map((answer) => [answer.model, answer]));
  const names = Object.keys(decision?.satisfaction ?? { [request.model]: NaN });
  const head = ["model", "likely right", "expected", "spent", "was"].map((text) => element("th", { scope: "col", text }));
  const rows = names.map((model) => element("tr", model === request.model ? { class: "chosen" } : {},
    element("th", { scope: "row" }, swatch(colour(state, model)), model),
    element("td", { text: percent(decision?.satisfaction?.[model] ?? NaN, 0) }),
    element("td", { text: joules(decision?.expected_joules?.[model] ?? NaN) }),
    element("td", { text: model === request.model ? joules(spent(request).answer) : joules(made.get(model)?.joules ?? NaN) }),
    element("td", { text: verdict(made.get(model)) })));
  const timing = request.timing;
  const facts = [
    `${request.prompt_tokens} tokens read, ${request.completion_tokens} generated`,
    `waited ${duration(timing.queue_ms)}, routed in ${duration(timing.route_ms)}, first token after ${duration(timing.first_token_ms ?? NaN)}`,
    decision?.policy ? `${decision.policy}, promise ${request.sla}, queue ${decision.queue.toFixed(1)}` : "",
    `joules ${request.energy.source}`,
    request.id,
  ];
  return element("div", { class: "details" },
    element("table", { class: "numbers" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)),
    element("p", { class: "quiet small", text: `${facts.filter(Boolean).join(" · ")}` }));
}

class Row {
  constructor(state, request, send) {
    this.state = state;
    const text = request.input_text.trim() || "(no words)";
    this.name = element("span", { class: "model" }, swatch(colour(state, request.model)), request.model);
    this.cost = element("span", { class: "cost" });
    this.why = element("span");
    this.body = element("div");
    this.fold = element("details", { ontoggle: () => this.unfold() }, element("summary", {}, this.why), this.body);
    this.thumbs = thumbs(request.id, text, send);
    const tail = isAnswered(request) ? this.thumbs : element("span", { class: "quiet small", text: request.finish_reason ?? "" });
    this.node = element("li", { class: "request" },
      element("div", { class: "top" }, this.name, this.cost),
      element("div", { class: "middle" }, element("p", { class: "asked", text, title: text }), tail),
      this.fold);
    this.show(request);
  }

  show(request) {
    this.request = request;
    const { answer, learnt, final } = spent(request);
    const more = learnt > 0 ? ` + ${joules(learnt)} to learn` : "";
    say(this.cost, `${joules(answer)}${final ? "" : " so far"}${more} · ${duration(request.timing.total_ms ?? NaN)}`);
    say(this.why, why(request));
    this.thumbs.show(request);
    this.unfold();
  }

  unfold() {
    if (this.fold.open) this.body.replaceChildren(details(this.state, this.request));
  }
}

// Keeps the newest requests, and holds the list still while somebody points at it or has the keyboard in it.
export class RequestList {
  constructor(state, list, held, send) {
    Object.assign(this, { state, list, held, send, rows: new Map(), heard: new Map(), due: false, inside: false });
    list.addEventListener("pointerenter", (event) => { this.inside = event.pointerType === "mouse"; });
    list.addEventListener("pointerleave", () => { this.inside = false; this.draw(); });
    list.addEventListener("focusout", () => this.draw());
  }

  keep(request) {
    const before = this.state.requests.get(request.id);
    const known = { ...before, ...request, feedback: request.feedback ?? before?.feedback };
    this.state.requests.set(request.id, known);
    if (this.state.requests.size > KEPT) this.state.requests.delete([...this.state.requests.keys()].sort()[0]);
    this.rows.get(request.id)?.show(known);
    this.heard.get(request.id)?.(known);
    this.draw();
  }

  // Calls back whenever something is learnt of a request.
  follow(id, heard) {
    this.heard.set(id, heard);
    if (this.state.requests.has(id)) heard(this.state.requests.get(id));
  }

  draw() {
    if (this.due) return;
    this.due = true;
    // In a flood of requests a few changes a second are all that can be read.
    setTimeout(() => {
      this.due = false;
      this.redraw();
    }, RHYTHM_MS);
  }

  redraw() {
    const newest = [...this.state.requests.values()].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, SHOWN);
    const fresh = newest.filter((request) => !this.rows.has(request.id)).length;
    const held = this.rows.size > 0 && fresh > 0 && (this.inside || this.list.contains(document.activeElement));
    say(this.held, held ? `${fresh} newer wait while you are here` : "");
    if (held || newest.length === 0) return;
    const ids = new Set(newest.map((request) => request.id));
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue;
      row.node.remove();
      this.rows.delete(id);
    }
    let after = null;
    for (const request of newest.reverse()) {
      let row = this.rows.get(request.id);
      if (!row) {
        row = new Row(this.state, request, this.send);
        this.rows.set(request.id, row);
        this.list.insertBefore(row.node, after);
      }
      after = row.node;
    }
    $("no-requests").hidden = true;
  }
}
