// The dashboard in a real browser, driven as people do. SHOTS names a folder for pictures of it.

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { browser, watched } from "./browser.mjs";
import { freePort, load, serve } from "./server.mjs";

const SHOTS = process.env.SHOTS;
// What everything must be alive within, once requests come in.
const FIRST_LOOK_MS = 5000;
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let server, chromium;
before(async () => {
  [server, chromium] = [await serve(), await browser()];
  if (SHOTS) await mkdir(SHOTS, { recursive: true });
});
after(async () => {
  await chromium?.close();
  await server?.stop();
});

const picture = async (page, name, whole = false) => SHOTS && page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: whole });

// Which panels show nothing yet.
function lifeless() {
  const text = (id) => document.getElementById(id).textContent;
  const numbers = ["satisfaction", "queue", "watts", "decode-rate", "prefill-rate"].filter((id) => !/[0-9]/.test(text(id)));
  const charts = ["satisfaction-chart", "queue-chart", "watts-chart", "speed-chart"].filter((id) => !document.querySelector(`#${id} path[d*="L"]`));
  const rows = ["models", "latency", "requests"].filter((id) => document.getElementById(id).children.length === 0);
  const words = ["promise-words", "explore-words", "models-words", "latency-words", "meter", "watts-split"].filter((id) => !/[0-9]/.test(text(id)));
  const still = [];
  if (!document.querySelector("#interval .dot")) still.push("interval");
  if (!document.querySelector("#share span")) still.push("share");
  if (text("link") !== "live") still.push("link");
  if (text("decode-rate") === "0") still.push("decode-rate is 0");
  return [...numbers, ...charts, ...rows, ...words, ...still];
}

test("every panel is alive within five seconds of the first requests", async () => {
  const { page, complaints } = await watched(chromium.context, server.url);
  await page.locator("#link[data-state=live]").waitFor();
  const begun = Date.now();
  const requests = load(server.url, "--requests", "100000", "--concurrency", "4");
  try {
    let missing;
    do {
      missing = await page.evaluate(lifeless);
    } while (missing.length && Date.now() - begun < FIRST_LOOK_MS);
    assert.deepEqual(missing, []);
    console.log(`all panels alive after ${Date.now() - begun} ms`);
    await page.waitForTimeout(1000 * Number(process.env.WATCH_SECONDS ?? 3));
    await page.locator(".example").first().click();
    await page.locator("#talk .bill p", { hasText: "." }).waitFor();
    await picture(page, "desktop-light");
    await page.emulateMedia({ colorScheme: "dark" });
    await picture(page, "desktop-dark");
    await page.setViewportSize({ width: 390, height: 844 });
    await page.waitForTimeout(1500);
    await picture(page, "phone-dark", true);
    await page.emulateMedia({ colorScheme: "light" });
    await picture(page, "phone-light", true);
  } finally {
    await requests.stop();
  }
  assert.deepEqual(complaints, []);
  await page.close();
});

test("a phone never scrolls sideways", async () => {
  const { page, complaints } = await watched(chromium.context, server.url);
  for (const width of [320, 390, 768, 1024, 1920]) {
    await page.setViewportSize({ width, height: 844 });
    await page.waitForTimeout(200);
    const wide = await page.evaluate(() => document.scrollingElement.scrollWidth);
    assert.ok(wide <= width, `${wide} > ${width}`);
  }
  assert.deepEqual(complaints, []);
  await page.close();
});

test("asking shows the answer, who gave it, what it cost, and takes a thumb", async () => {
  const { page, complaints } = await watched(chromium.context, server.url);
  await page.locator("#link[data-state=live]").waitFor();
  // By keyboard alone.
  await page.locator("#question").focus();
  await page.keyboard.type("What is the capital of France?");
  await page.keyboard.press("Enter");
  const turn = page.locator("#talk .turn").last();
  await turn.locator(".model").waitFor();
  assert.match(await turn.locator(".said").textContent(), /\w/);
  assert.match(await turn.locator(".model").textContent(), /^demo-(small|medium|large)$/);
  assert.match(await turn.locator(".bill").textContent(), /\d J|\d mJ|\d µJ/);
  const row = page.locator("#requests .request").filter({ hasText: "What is the capital of France?" }).first();
  await row.waitFor();
  const [answered] = (await (await fetch(`${server.url}/v1/requests?limit=1`)).json()).data;
  await turn.getByRole("button", { name: /^satisfied/ }).focus();
  await page.keyboard.press("Space");
  await turn.locator(".thumb[aria-pressed=true]").waitFor();
  // The list learns of it, the server has it, and a second thought is not sent.
  await row.locator(".thumb[aria-pressed=true]").waitFor();
  const told = async () => (await (await fetch(`${server.url}/v1/requests/${answered.id}`)).json()).feedback;
  assert.equal((await told()).satisfied, 1);
  await turn.getByRole("button", { name: /^not satisfied/ }).click({ force: true });
  assert.equal((await told()).satisfied, 1);

  await page.locator("#target").selectOption("demo-large");
  await page.locator("#question").fill("What is the capital of Italy?");
  await page.locator("#send").click();
  const second = page.locator("#talk .turn").nth(1);
  await second.locator(".model").waitFor();
  assert.equal(await second.locator(".said").textContent(), "Rome");
  const named = page.locator("#requests .request").filter({ hasText: "What is the capital of Italy?" }).first();
  await named.getByRole("button", { name: /^not satisfied/ }).click();
  await second.locator(".thumb[aria-pressed=true]").waitFor();
  await picture(page, "chat");
  assert.deepEqual(complaints, []);
  await page.close();
});

test("a decision unfolds into its reasons, and the list waits for its reader", async () => {
  const { page, complaints } = await watched(chromium.context, server.url);
  const first = page.locator("#requests .request").filter({ has: page.locator("summary", { hasText: "demo-" }) }).first();
  await first.locator("summary").focus();
  await page.keyboard.press("Enter");
  const rows = first.locator(".details tbody tr");
  await rows.first().waitFor();
  assert.equal(await rows.count(), 3);
  assert.match(await first.locator(".details tr.chosen").textContent(), /%.*J.*J/);
  await picture(page, "decision");
  const before = await page.locator("#requests .request").first().textContent();
  await fetch(`${server.url}/v1/chat/completions`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ model: "auto", messages: [{ role: "user", content: "What is 1 + 1?" }] }),
  });
  await page.locator("#held", { hasText: "1 newer" }).waitFor();
  assert.equal(await page.locator("#requests .request").first().textContent(), before);
  await page.locator("#question").focus();
  await page.locator("#requests .request").filter({ hasText: "What is 1 + 1?" }).first().waitFor();
  assert.deepEqual(complaints, []);
  await page.close();
});

test("an answer can be stopped", async () => {
  const { page } = await watched(chromium.context, server.url);
  // The answer never begins, so that it cannot end first.
  await page.route("**/v1/chat/completions", () => {});
  await page.locator("#question").fill("Count.");
  await page.locator("#send").click();
  await page.locator("#send", { hasText: "Stop" }).click();
  await page.locator("#talk .said", { hasText: "(stopped)" }).waitFor();
  await page.locator("#send", { hasText: "Ask" }).waitFor();
  await page.close();
});

test("nothing that a screen reader would stumble over", async () => {
  const { page, complaints } = await watched(chromium.context, server.url);
  await page.locator("#requests .request").first().waitFor();
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document));
    assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), []);
  }
  assert.deepEqual(complaints, []);
  await page.close();
});

test("the colours can be chosen, and stay chosen", async () => {
  const { page, complaints } = await watched(chromium.context, server.url);
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.emulateMedia({ colorScheme: "light" });
  const light = await paper();
  await page.locator("#theme").click();
  await page.locator("#theme").click();
  const dark = await paper();
  assert.notEqual(dark, light);
  await page.reload();
  assert.equal(await paper(), dark);
  await page.locator("#theme").click();
  assert.equal(await paper(), light);
  assert.deepEqual(complaints, []);
  await page.close();
});

test("a key is asked for, checked, and kept in its tab", async () => {
  const zoo = `[server]\napi_keys_file = "keys.txt"\n[[model]]\nname = "one"\nsource = "demo:small"\n[[sla]]\nname = "default"\nalpha = 0.5\n`;
  const locked = await serve({ zoo, keys: ["open sesame"] });
  try {
    const { page } = await watched(chromium.context, locked.url);
    await page.locator("#key").fill("wrong");
    await page.getByRole("button", { name: "Open" }).click();
    await page.locator("#door-error", { hasText: "not known" }).waitFor();
    await page.locator("#key").fill("open sesame");
    await page.keyboard.press("Enter");
    await page.locator("#link[data-state=live]").waitFor();
    await page.locator("#question").fill("What is the capital of France?");
    await page.keyboard.press("Enter");
    await page.locator("#talk .bill .model").waitFor();
    const kept = await page.evaluate(() => [Object.values(localStorage).join(), document.cookie]);
    assert.ok(kept.every((text) => !text.includes("sesame")), kept.join());
    await page.reload();
    await page.locator("#link[data-state=live]").waitFor();
    const other = await watched(chromium.context, locked.url);
    await other.page.locator("#door").waitFor();
    await other.page.close();
    await page.close();
  } finally {
    await locked.stop();
  }
});

test("it comes back when the server does", async () => {
  const port = await freePort();
  let other = await serve({ port });
  const { page } = await watched(chromium.context, other.url);
  await page.locator("#link[data-state=live]").waitFor();
  await other.stop();
  await page.locator("#link[data-state=lost]").waitFor();
  other = await serve({ port });
  try {
    await page.locator("#link[data-state=live]").waitFor();
  } finally {
    await page.close();
    await other.stop();
  }
});
