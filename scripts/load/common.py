"""What the load scripts share: a server of their own, HTTP on plain sockets, and tables with bars."""

import argparse
import asyncio
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The demo zoo's token that ends an answer: forbidding it makes answers as long as max_tokens.
END_TOKEN = 5


def arguments(about, **more):
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--binary", default=str(ROOT / "target/release/messplus"), help="the program [target/release/messplus]")
    for name, (default, words) in more.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default, help=f"{words} [{default}]")
    given = parser.parse_args()
    # A socket is a descriptor, here as there.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return given


class Server:
    """`messplus serve` with a zoo file of its own, in a folder that goes with it."""

    def __init__(self, binary, lines="", models=("small", "medium", "large")):
        self.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self.folder.name)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        zoo = f'[server]\nlisten = "127.0.0.1:{self.port}"\n{lines}\n'
        zoo += "".join(f'[[model]]\nname = "demo-{m}"\nsource = "demo:{m}"\n' for m in models)
        (folder / "zoo.toml").write_text(zoo)
        self.log = open(folder / "log.txt", "w")
        command = [binary, "serve", "--zoo", str(folder / "zoo.toml"), "--data-dir", str(folder / "data")]
        environment = {**os.environ, "RUST_LOG": os.environ.get("RUST_LOG", "warn")}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment)
        for line in self.process.stdout:
            if line.startswith("listening on "):
                return
        sys.exit(f"the server did not start: {(folder / 'log.txt').read_text()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.folder.cleanup()

    def memory(self):
        """Resident bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def most_memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def chat(model="auto", content="What is 17 + 25?", **more):
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


def long_answer(tokens, model="demo-small", **more):
    return chat(model, "Count.", max_tokens=tokens, logit_bias={str(END_TOKEN): -100}, **more)


def head(length, path="/v1/chat/completions", method="POST", keep=False):
    rest = "" if keep else "connection: close\r\n"
    return (f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {length}\r\n{rest}\r\n").encode()


async def call(server, body=None, path="/v1/chat/completions", patience=300):
    """One exchange on a connection of its own: status, headers, body, and seconds until the head and the end."""
    payload = b"" if body is None else json.dumps(body).encode()
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(head(len(payload), path, "GET" if body is None else "POST") + payload)
        top = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), patience)
        first = time.perf_counter() - begun
        rest = await asyncio.wait_for(reader.read(), patience)
        lines = top.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        if headers.get("transfer-encoding") == "chunked":
            rest = dechunked(rest)
        return int(lines[0].split()[1]), headers, rest, first, time.perf_counter() - begun
    finally:
        writer.close()


def dechunked(data):
    whole, at = b"", 0
    while True:
        end = data.index(b"\r\n", at)
        size = int(data[at:end], 16)
        if size == 0:
            return whole
        whole += data[end + 2:end + 2 + size]
        at = end + 2 + size + 2


def metrics(page):
    """Series of a scrape, by their whole names."""
    lines = (line.rsplit(" ", 1) for line in page.decode().splitlines() if not line.startswith("#"))
    return {series: float(value) for series, value in lines}


def percentile(values, share):
    if not values:
        return float("nan")
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, round(share * (len(ranked) - 1)))]


class Report:
    """A table of what was seen against what was wanted; ends the script with 1 when a bar is missed."""

    def __init__(self):
        self.rows = []

    def row(self, what, seen, bar="", held=True):
        self.rows.append((what, str(seen), bar, held))

    def end(self):
        rows = [("what", "seen", "bar", True)] + self.rows
        widths = [max(len(row[at]) for row in rows) for at in range(3)]
        for at, (what, seen, bar, held) in enumerate(rows):
            mark = "" if at == 0 or not bar else ("held" if held else "MISSED")
            print(f"{what:{widths[0]}}  {seen:>{widths[1]}}  {bar:{widths[2]}}  {mark}".rstrip())
        sys.exit(0 if all(held for *_, held in self.rows) else 1)


def ms(seconds):
    return f"{1e3 * seconds:.2f} ms"


def mib(count):
    return f"{count / 2**20:.1f} MiB"
