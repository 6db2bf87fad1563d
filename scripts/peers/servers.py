"""The peers: each is started, asked and stopped the same way."""

import http.client
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import load

SCRIPTS = Path(__file__).resolve().parents[1]
PATIENCE = 300  # seconds until a server must be ready


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def version_of(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class Peer:
    """A process that holds the model. `run` takes (text, ids) pairs and returns one record a prompt, as load.burst does."""

    def __init__(self, threads, seqs):
        self.threads, self.seqs, self.process, self.folder = threads, seqs, None, None

    def launch(self, command, **more):
        self.folder = Path(tempfile.mkdtemp(prefix="messplus-peer-"))
        self.log = open(self.folder / "log", "wb")
        env = os.environ | {"RAYON_NUM_THREADS": str(self.threads), "CANDLE_NUM_THREADS": str(self.threads), "OMP_NUM_THREADS": str(self.threads)}
        self.process = subprocess.Popen([str(word) for word in command], stderr=self.log, env=env, cwd=SCRIPTS, **more)

    def last_words(self):
        return (self.folder / "log").read_bytes()[-800:].decode(errors="replace").strip()

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.process = None


class Server(Peer):
    """Speaks HTTP."""

    ready, model, usage = "/v1/models", "bench", True

    def start(self, path):
        self.port = free_port()
        self.open(path)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended before it was ready: {self.last_words()}")
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", self.ready)
                if connection.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            time.sleep(0.2)
        raise RuntimeError(f"{self.name} was not ready after {PATIENCE} s: {self.last_words()}")

    def run(self, prompts, tokens):
        return load.burst(self.port, self.model, [text for text, _ in prompts], tokens, self.usage)


class Ours(Server):
    name, ready = "messplus", "/ready"
    binary = SCRIPTS.parent / "target" / "release" / "messplus"

    def version(self):
        return subprocess.check_output([self.binary, "--version"], text=True).strip()

    def open(self, path):
        zoo = Path(tempfile.mkdtemp(prefix="messplus-zoo-"))
        (zoo / "zoo.toml").write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\n[energy]\nmeter = "modelled"\n'
            f'[[model]]\nname = "bench"\nsource = "path:{path}"\n[[sla]]\nname = "default"\nalpha = 0.5\n')
        self.launch([self.binary, "serve", "--zoo", zoo / "zoo.toml", "--data-dir", zoo / "data"], stdout=subprocess.DEVNULL)
        self.zoo = zoo

    def stop(self):
        super().stop()
        if hasattr(self, "zoo"):
            shutil.rmtree(self.zoo, ignore_errors=True)


class LlamaServer(Server):
    """llama-cpp-python's own OpenAI server: one request at a time."""

    name, usage = "llama.cpp, Python server", False

    def version(self):
        return f"llama-cpp-python {version_of('llama-cpp-python')}"

    def open(self, path):
        # Without interrupt_requests a newer request would cut off the streams of older ones; logits_all computes what nobody reads.
        self.launch([sys.executable, "-m", "llama_cpp.server", "--model", path, "--model_alias", "bench", "--host", "127.0.0.1",
                     "--port", self.port, "--n_ctx", 2048, "--n_threads", self.threads, "--n_threads_batch", self.threads,
                     "--interrupt_requests", "False", "--logits_all", "False", "--verbose", "False"], stdout=subprocess.DEVNULL)


class Worker(Peer):
    """Speaks JSON lines."""

    def start(self, path):
        self.launch(self.command(path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise RuntimeError(f"{self.name} ended: {self.last_words()}")
        return json.loads(line)

    def ask(self, prompts, tokens):
        self.process.stdin.write(json.dumps({"prompts": prompts, "tokens": tokens}) + "\n")
        self.process.stdin.flush()
        return self.answer()


class LlamaNative(Worker):
    name = "llama.cpp, library"
    version = LlamaServer.version

    def command(self, path):
        return [sys.executable, "-m", "peers.native_llama", path, "--threads", self.threads, "--seqs", self.seqs]

    def run(self, prompts, tokens):
        return self.ask([ids for _, ids in prompts], tokens)


class Mistral(Worker):
    name = "mistral.rs"
    seqs_at_once = None

    def version(self):
        return f"mistralrs {version_of('mistralrs')}"

    def command(self, path):
        return [sys.executable, "-m", "peers.mistral_worker", path, "--threads", self.threads, "--seqs", self.seqs_at_once or self.seqs]

    def run(self, prompts, tokens):
        return self.ask([text for text, _ in prompts], tokens)


class MistralSerial(Mistral):
    """One sequence at a time: mistral.rs 0.9.5 fails on the CPU when GGUF prompts of equal length start together."""

    name, seqs_at_once = "mistral.rs, max_seqs 1", 1


PEERS = {"messplus": Ours, "llama-server": LlamaServer, "llama-native": LlamaNative, "mistralrs": Mistral,
         "mistralrs-serial": MistralSerial}
