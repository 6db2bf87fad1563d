// A `messplus serve` with the demo zoo on a free port and a data folder that is thrown away.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const BINARY = process.env.MESSPLUS ?? fileURLToPath(new URL("../../target/debug/messplus", import.meta.url));

export async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  return port;
}

// `zoo` is the text of a zoo file; `keys` the keys it asks for, with which `zoo` must say `api_keys_file = "keys.txt"`.
export async function serve({ port = 0, zoo, keys } = {}) {
  const folder = await mkdtemp(join(tmpdir(), "messplus-dashboard-"));
  const more = zoo ? ["--zoo", join(folder, "zoo.toml")] : [];
  if (zoo) await writeFile(join(folder, "zoo.toml"), zoo);
  if (keys) await writeFile(join(folder, "keys.txt"), keys.join("\n"));
  const server = spawn(BINARY, ["serve", "--listen", `127.0.0.1:${port}`, "--data-dir", join(folder, "data"), ...more], { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, RUST_LOG: "error" } });
  let url;
  const lines = createInterface({ input: server.stdout });
  for await (const line of lines) {
    if (!line.startsWith("listening on ")) continue;
    url = line.slice("listening on ".length).trim();
    break;
  }
  server.stdout.resume();
  if (!url) throw new Error(`${BINARY} ended before it listened`);
  return {
    url,
    async stop() {
      server.kill("SIGTERM");
      if (server.exitCode === null) await once(server, "exit");
      await rm(folder, { recursive: true });
    },
  };
}

// `messplus load` against a server.
export function load(url, ...more) {
  const client = spawn(BINARY, ["load", "--url", url, ...more], { stdio: "ignore" });
  const ended = once(client, "exit");
  return { async stop() { client.kill("SIGINT"); await ended; } };
}
