// The dashboard: one stream of events from the server, drawn as it comes. No library, no network but this host.

import { HISTORY_SECONDS } from "./charts.js";
import { openChat } from "./chat.js";
import { draw } from "./panels.js";
import { RequestList } from "./requests.js";
import { events } from "./stream.js";
import { $, element } from "./words.js";

const LONGEST_PAUSE = 8000;
// The key is kept in this tab and goes with it.
const KEY = "messplus-key";
const THEME = "messplus-theme";

const state = { models: [], slas: [], sla: "default", samples: [], requests: new Map(), key: sessionStorage.getItem(KEY) };

const server = {
  headers: (more) => (state.key ? { ...more, authorization: `Bearer ${state.key}` } : more),
  get: (path, media) => fetch(path, { headers: server.headers({ accept: media }) }),
  post: (path, body, signal) => fetch(path, { method: "POST", headers: server.headers({ "content-type": "application/json" }), body: JSON.stringify(body), signal }),
  // Sends a verdict; the problem in words, if there is one.
  async judge(id, satisfied) {
    try {
      const answer = await server.post("v1/feedback", { request_id: id, satisfied });
      if (!answer.ok) return (await answer.json()).error?.message ?? `error ${answer.status}`;
      const known = state.requests.get(id) ?? (await (await server.get(`v1/requests/${id}`, "application/json")).json());
      list.keep({ ...known, feedback: { satisfied: satisfied ? 1 : 0, source: "user" } });
      return null;
    } catch (error) {
      return `not sent: ${error.message}`;
    }
  },
};
const list = new RequestList(state, $("requests"), $("held"), server.judge);

// ---- what the stream says ------------------------------------------------------------------------------------

function hello(said) {
  Object.assign(state, { models: said.models, slas: said.slas, samples: [] });
  const targets = ["auto", ...said.slas.filter((sla) => sla !== "default").map((sla) => `auto:${sla}`), ...said.models.map((model) => model.name)];
  const options = (names) => names.map((name) => element("option", { text: name, value: name }));
  if ($("target").options.length === 0) $("target").replaceChildren(...options(targets));
  if (!said.slas.includes(state.sla)) state.sla = said.slas[0];
  $("promise").replaceChildren(...options(said.slas));
  $("promise").value = state.sla;
  $("promise-choice").hidden = said.slas.length < 2;
  said.requests.forEach((request) => list.keep(request));
}

// Counters become rates by the sample before.
function sample(now) {
  const before = state.samples.at(-1);
  if (before && now.t > before.t) {
    const seconds = now.t - before.t;
    const per = (part) => Math.max(0, now.devices.reduce((sum, device, n) => sum + device[part] - (before.devices[n]?.[part] ?? 0), 0) / seconds);
    now.watts = {
      idle: per("idle_joules"), requests: per("request_joules"), exploration: per("exploration_joules"),
      "router, other": per("router_joules") + per("load_joules") + per("unattributed_joules"),
    };
    const tokens = (phase) => Math.max(0, now.models.reduce((sum, model, n) => sum + model[phase] - (before.models[n]?.[phase] ?? 0), 0) / seconds);
    now.rates = { prefill: tokens("prefill_tokens"), decode: tokens("decode_tokens") };
  }
  state.samples.push(now);
  while (now.t - state.samples[0].t > HISTORY_SECONDS + 5) state.samples.shift();
  draw(state);
}

function feedback({ id, feedback: told }) {
  if (state.requests.has(id)) list.keep({ ...state.requests.get(id), feedback: told });
}

const heard = { hello, sample, request: (request) => list.keep(request), feedback };

function link(kind, words) {
  $("link").dataset.state = kind;
  $("link").textContent = words;
}

async function listen() {
  let pause = 500;
  for (;;) {
    try {
      const answer = await server.get("v1/live", "text/event-stream");
      if (answer.status === 401) {
        link("lost", "locked");
        await unlocked(state.key ? "That key is not known here." : "");
        continue;
      }
      if (answer.status === 503) {
        $("meter").textContent = (await answer.json()).error.message;
        throw new Error("not ready");
      }
      if (!answer.ok) throw new Error(`error ${answer.status}`);
      link("live", "live");
      pause = 500;
      for await (const { kind, data } of events(answer.body)) heard[kind]?.(JSON.parse(data));
      link("lost", "reconnecting");
    } catch (error) {
      link("lost", error instanceof TypeError ? "reconnecting" : error.message);
    }
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }
}

// Asks for a key, and waits until one is given.
function unlocked(problem) {
  $("door").hidden = false;
  $("door-error").textContent = problem;
  $("key").focus();
  return new Promise((done) => {
    $("door").onsubmit = (event) => {
      event.preventDefault();
      state.key = $("key").value.trim();
      sessionStorage.setItem(KEY, state.key);
      $("key").value = "";
      $("door").hidden = true;
      done();
    };
  });
}

// ---- the page itself -----------------------------------------------------------------------------------------

function dress(theme) {
  document.documentElement.style.colorScheme = theme === "auto" ? "" : theme;
  $("theme").textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
  $("theme").setAttribute("aria-label", `colours: ${theme}`);
  $("theme").title = `colours: ${theme}`;
}
let theme = localStorage.getItem(THEME) ?? "auto";
dress(theme);
$("theme").addEventListener("click", () => {
  theme = { auto: "light", light: "dark", dark: "auto" }[theme];
  localStorage.setItem(THEME, theme);
  dress(theme);
});
$("promise").addEventListener("change", () => { state.sla = $("promise").value; draw(state); });
addEventListener("resize", () => draw(state));

openChat(state, list, server);
listen();
