"""openai-python, sync: legacy completions."""

import pytest
from conftest import DUMMY_KEY
from openai import OpenAI

PROMPT = "What is the capital of France?"


def ask(client, prompt=PROMPT, **more):
    # Without a chat's frame the demo models would rather end at once.
    endless = {"max_tokens": 8, "logit_bias": {"5": -100}}
    return client.completions.create(model="demo-large", prompt=prompt, temperature=0, **endless, **more)


def test_text(client):
    answer = ask(client)
    assert answer.id.startswith("cmpl-") and answer.object == "text_completion"
    assert answer.choices[0].finish_reason in ("stop", "length") and answer.usage.completion_tokens > 0


def test_a_list_of_prompts_and_token_ids(client):
    first, second = ask(client, [PROMPT, "2 + 2"]).choices
    assert (first.index, second.index) == (0, 1) and first.text == ask(client).choices[0].text
    assert ask(client, [[20, 21, 22], [23, 24]]).choices[1].index == 1
    assert ask(client, [20, 21, 22]).usage.prompt_tokens == 3


def test_logprobs(client):
    logprobs = ask(client, logprobs=2).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) > 0
    assert all(len(top) >= 2 for top in logprobs.top_logprobs)


def test_stream(client, url):
    # Its types know no null finish_reason, which OpenAI's own streams send: strict validation would refuse them too.
    lenient = OpenAI(base_url=f"{url}/v1", api_key=DUMMY_KEY, max_retries=0)
    *chunks, last = ask(lenient, stream=True, stream_options={"include_usage": True})
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == ask(client).choices[0].text
    assert last.choices == [] and last.usage.total_tokens > 0


@pytest.mark.parametrize("n", [1, 2])
def test_n(client, n):
    assert len(ask(client, [PROMPT, "2 + 2"], n=n).choices) == 2 * n
