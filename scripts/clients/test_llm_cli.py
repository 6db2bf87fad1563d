"""The `llm` command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def llm(url, tmp_path_factory):
    home = tmp_path_factory.mktemp("llm")
    entry = "- model_id: {0}\n  model_name: {1}\n  api_base: {2}/v1\n  supports_tools: true\n  supports_schema: true\n"
    text = entry.format("zoo", "auto", url) + entry.format("large", "demo-large", url)
    text += f"- model_id: text\n  model_name: demo-large\n  api_base: {url}/v1\n  completion: true\n"
    text += f"- model_id: responses\n  model_name: demo-large\n  api_base: {url}/v1\n  responses: true\n"
    (home / "extra-openai-models.yaml").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI", "LLM"))}
    environment["LLM_USER_PATH"] = str(home)
    command = Path(sys.executable).parent / "llm"

    def run(*arguments, said=""):
        done = subprocess.run([command, *arguments], env=environment, input=said, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def logged(llm):
    [entry] = json.loads(llm("logs", "-n", "1", "--json"))
    return entry


def test_streamed(llm):
    assert llm("-m", "large", "-o", "temperature", "0", QUESTION).strip() == "Paris"
    assert logged(llm)["input_tokens"] > 0 and logged(llm)["output_tokens"] > 0


def test_at_once(llm):
    assert llm("-m", "large", "--no-stream", "-o", "temperature", "0", QUESTION).strip() == "Paris"
    assert logged(llm)["output_tokens"] > 0


def test_the_router(llm):
    assert llm("-m", "zoo", QUESTION).strip()


def test_system_prompt_and_options(llm):
    more = "-o temperature 0 -o seed 3 -o max_tokens 20 -o top_p 0.9 -o stop r".split()
    assert llm("-m", "large", "-s", "Answer.", *more, QUESTION).strip() == "Pa"


def test_a_conversation(llm):
    assert llm("chat", "-m", "large", said=f"{QUESTION}\nWhat is the capital of Italy?\nquit\n").count("Paris") == 1


def test_schema(llm):
    schema = {"type": "object", "properties": {"capital": {"enum": ["Paris", "Rome"]}}, "required": ["capital"]}
    schema["additionalProperties"] = False
    assert json.loads(llm("-m", "large", "--schema", json.dumps(schema), QUESTION))["capital"] in ("Paris", "Rome")


def test_tools(llm):
    plugin = "def capital(country: str) -> str:\n    'The capital of a country.'\n    return 'Paris'\n"
    # The demo models call nothing of their own accord; what counts is that the tools are taken.
    llm("-m", "large", "--functions", plugin, "--td", "-o", "max_tokens", "20", QUESTION)
    assert logged(llm)["output_tokens"] > 0


def test_completions(llm):
    assert llm("-m", "text", "-o", "max_tokens", "8", QUESTION)


def test_responses(llm):
    assert llm("-m", "responses", QUESTION).strip() == "Paris"
