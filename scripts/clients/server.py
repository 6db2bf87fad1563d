"""A `messplus serve` of its own on a free port, with a data folder that is thrown away."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("demo-small", "demo-medium", "demo-large")


def binary() -> Path:
    return Path(os.environ.get("MESSPLUS", ROOT / "target" / "debug" / "messplus"))


class Server:
    """Serves until the `with` block ends. `zoo` is the text of a zoo file; `keys` are the keys it asks for."""

    def __init__(
        self, zoo: str | None = None, keys: tuple[str, ...] = (), max_per_key: int | None = None, port: int = 0
    ):
        self.folder = tempfile.TemporaryDirectory(prefix="messplus-clients-")
        folder = Path(self.folder.name)
        command = [binary(), "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", folder / "data"]
        if keys:
            (folder / "keys.txt").write_text("\n".join(keys))
            server = f'[server]\napi_keys_file = "{folder / "keys.txt"}"\n'
            server += "" if max_per_key is None else f"max_per_key = {max_per_key}\n"
            zoo = server + (zoo or demo_zoo())
        if zoo is not None:
            (folder / "zoo.toml").write_text(zoo)
            command += ["--zoo", folder / "zoo.toml"]
        self.log = open(folder / "log", "w+")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.port, self.url = port, None

    def door(self) -> str:
        """The address as soon as somebody listens there; the models may still load."""
        while self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return f"http://127.0.0.1:{self.port}"
            time.sleep(0.002)
        raise RuntimeError(f"messplus ended with {self.process.returncode}: {self.said()}")

    def wait(self) -> str:
        """The address, once the models are loaded."""
        while self.url is None:
            line = self.process.stdout.readline()
            if not line:
                self.process.wait()
                raise RuntimeError(f"messplus ended with {self.process.returncode}: {self.said()}")
            if line.startswith("listening on "):
                self.url = line.removeprefix("listening on ").strip()
        return self.url

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def stop(self) -> int:
        """As a supervisor does; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=150)
        self.process.stdout.close()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()
            self.folder.cleanup()


def demo_zoo(copies: int = 1) -> str:
    """A zoo file of the demo models; more copies take longer to load."""
    models = [(f"{name}{'' if copy == 0 else f'-{copy}'}", name) for copy in range(copies) for name in MODELS]
    tables = [
        f'[[model]]\nname = "{name}"\nsource = "demo:{source.removeprefix("demo-")}"\n' for name, source in models
    ]
    return "\n".join([*tables, '[[sla]]\nname = "default"\nalpha = 0.85\n'])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
