// Debian's Chromium, fresh and alone: no profile, no background traffic.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

export async function browser() {
  const profile = await mkdtemp(join(tmpdir(), "messplus-chromium-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM, headless: true, args: FLAGS, viewport: { width: 1280, height: 940 },
  });
  return { context, async close() { await context.close(); await rm(profile, { recursive: true, force: true }); } };
}

// A page that remembers what it must not do: write errors to the console, or ask any other host.
export async function watched(context, url) {
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(`thrown: ${error.message}`));
  page.on("request", (request) => {
    const asked = request.url();
    if (!asked.startsWith(`${url}/`) && !asked.startsWith("data:")) complaints.push(`asked ${asked}`);
  });
  await page.goto(`${url}/`);
  return { page, complaints };
}
