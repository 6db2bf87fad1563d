// The official openai npm package against the server at MESSPLUS_URL.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: `${process.env.MESSPLUS_URL}/v1`, apiKey: "DUMMY_KEY", maxRetries: 0 });
const question = "What is the capital of France?";
const asked = { model: "demo-large", messages: [{ role: "user", content: question }], temperature: 0 };
const parameters = {
  type: "object", properties: { city: { enum: ["Paris", "Rome"] } }, required: ["city"], additionalProperties: false,
};
const weather = { type: "function", function: { name: "weather", description: "The weather of a city.", parameters, strict: true } };
const Country = z.object({ capital: z.enum(["Paris", "Rome"]) });

test("chat", async () => {
  const { data, response } = await client.chat.completions.create({ ...asked, model: "auto" }).withResponse();
  assert.ok(data.choices[0].message.content);
  assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
  assert.equal(data._request_id, data.messplus.request_id);
  assert.equal(response.headers.get("x-model"), data.model);
  assert.ok(data.messplus.energy.joules > 0);
});

test("stream", async () => {
  const stream = await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
  let text = "", usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage;
  }
  assert.equal(text, "Paris");
  assert.ok(usage.completion_tokens > 0);
});

test("stream helper", async () => {
  const stream = client.chat.completions.stream(asked);
  let text = "";
  stream.on("content", (delta) => { text += delta; });
  assert.equal(await stream.finalContent(), "Paris");
  assert.equal(text, "Paris");
});

test("a stream that is left is cancelled", async () => {
  const stream = await client.chat.completions.create({ ...asked, max_tokens: 200, logit_bias: { 5: -100 }, stream: true });
  for await (const chunk of stream) {
    assert.ok(chunk.id);
    break;
  }
  assert.equal(stream.controller.signal.aborted, true);
});

test("structured output", async () => {
  const answer = await client.chat.completions.parse({ ...asked, max_tokens: 120, response_format: zodResponseFormat(Country, "country") });
  assert.equal(typeof answer.choices[0].message.parsed.capital, "string");
});

test("tools", async () => {
  for (const choice of ["required", { type: "function", function: { name: "weather" } }]) {
    const answer = await client.chat.completions.create({ ...asked, max_tokens: 160, tools: [weather], tool_choice: choice });
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(call.function.name, "weather");
    assert.equal(typeof JSON.parse(call.function.arguments).city, "string");
  }
});

test("streamed tools", async () => {
  const stream = client.chat.completions.stream({ ...asked, max_tokens: 160, tools: [weather], tool_choice: "required" });
  const final = await stream.finalChatCompletion();
  const [call] = final.choices[0].message.tool_calls;
  assert.equal(typeof JSON.parse(call.function.arguments).city, "string");
  assert.equal(final.choices[0].finish_reason, "tool_calls");
});

test("the tool runner", async () => {
  const called = [];
  const runner = client.chat.completions.runTools({
    ...asked, max_tokens: 160, tool_choice: { type: "function", function: { name: "weather" } },
    tools: [{ type: "function", function: { name: "weather", parameters, parse: JSON.parse, function: ({ city }) => { called.push(city); return "clear"; } } }],
  });
  await runner.done();
  assert.equal(called.length, 1);
});

test("completions", async () => {
  const answer = await client.completions.create({ model: "demo-large", prompt: [question, "2 + 2"], max_tokens: 8 });
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
});

test("models", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.deepEqual(names, ["auto", "demo-small", "demo-medium", "demo-large"]);
});

test("responses", async () => {
  const answer = await client.responses.create({ model: "demo-large", input: question, temperature: 0 });
  assert.equal(answer.output_text, "Paris");
  assert.ok(answer.usage.output_tokens > 0);
});

test("responses, streamed", async () => {
  const stream = client.responses.stream({ model: "demo-large", input: question, temperature: 0 });
  let text = "";
  for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
  assert.equal(text, "Paris");
  assert.equal((await stream.finalResponse()).output_text, "Paris");
});

test("responses, parsed", async () => {
  const answer = await client.responses.parse({ model: "demo-large", input: question, temperature: 0, max_output_tokens: 120, text: { format: zodTextFormat(Country, "country") } });
  assert.equal(typeof answer.output_parsed.capital, "string");
});

test("errors", async () => {
  await assert.rejects(client.chat.completions.create({ ...asked, model: "gpt-9" }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    assert.equal(error.param, "model");
    assert.match(error.requestID, /^req_/);
    return true;
  });
  await assert.rejects(client.chat.completions.create({ ...asked, temperature: 9 }), OpenAI.BadRequestError);
});
