// The box to ask in: the answer as it is made, who made it, and what it cost.

import { events } from "./stream.js";
import { colour } from "./panels.js";
import { spent, thumbs, why } from "./requests.js";
import { $, duration, element, joules, say, swatch } from "./words.js";

export function openChat(state, list, server) {
  let running = null;
  const turns = [];

  $("chat").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) {
      running.abort();
      return;
    }
    const question = $("question").value.trim();
    if (!question) return;
    $("question").value = "";
    running = new AbortController();
    say($("send"), "Stop");
    try {
      await ask(question, running.signal);
    } finally {
      running = null;
      say($("send"), "Ask");
    }
  });

  for (const example of document.querySelectorAll(".example")) {
    example.addEventListener("click", () => {
      $("question").value = example.textContent;
      $("question").focus();
      $("chat").requestSubmit();
    });
  }

  async function ask(question, signal) {
    const answer = element("p", { class: "said", text: "…", "aria-busy": "true" });
    const bill = element("div", { class: "bill quiet small" });
    const turn = element("div", { class: "turn" }, element("p", { class: "you", text: question }), answer, bill);
    $("talk-hint").hidden = true;
    $("talk").append(turn);
    const follow = () => { $("talk").scrollTop = $("talk").scrollHeight; };
    follow();
    if (!$("carry-on").checked) turns.length = 0;
    turns.push({ role: "user", content: question });
    let text = "";
    try {
      const response = await server.post("v1/chat/completions", { model: $("target").value, stream: true, messages: turns }, signal);
      if (!response.ok) throw new Error((await response.json()).error.message);
      for await (const { data } of events(response.body)) {
        if (data === "[DONE]") break;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message);
        text += chunk.choices?.[0]?.delta?.content ?? "";
        if (text) say(answer, text);
        if (chunk.messplus) present(chunk.messplus, bill, question);
        follow();
      }
      if (!text) say(answer, "(an empty answer)", "said quiet");
      turns.push({ role: "assistant", content: text });
    } catch (error) {
      if (signal.aborted) say(answer, `${text} (stopped)`.trim());
      else say(answer, error.message, "said bad");
      turns.pop();
    } finally {
      answer.setAttribute("aria-busy", "false");
      follow();
    }
  }

  // The bill is the stream's at first, and the log's once the meter has ticked past the answer.
  function present(said, bill, question) {
    const cost = element("span");
    const reason = element("p");
    const verdict = thumbs(said.request_id, question, server.judge);
    bill.replaceChildren(
      element("span", { class: "model" }, swatch(colour(state, said.model)), said.model), cost, verdict, reason);
    const write = ({ answer, learnt, final }, source, ms) => {
      const more = learnt > 0 ? `, and ${joules(learnt)} to learn` : "";
      say(cost, `${joules(answer)} ${source}${final ? "" : " so far"}${more} · ${duration(ms)}`);
    };
    write({ answer: said.energy.joules, learnt: said.energy.exploration_joules, final: said.energy.final }, said.energy.source, said.timing.total_ms);
    list.follow(said.request_id, (request) => {
      write(spent(request), request.energy.source, request.timing.total_ms);
      say(reason, why(request));
      verdict.show(request);
    });
  }
}
