"""anthropic's Python package at `/v1/messages`."""

import anthropic
import pytest
from conftest import DUMMY_KEY

ASKED = {
    "model": "demo-large",
    "max_tokens": 160,
    # No longer a parameter of this client, which sends it on all the same.
    "extra_body": {"temperature": 0},
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def claude(url):
    return anthropic.Anthropic(base_url=url, api_key=DUMMY_KEY, max_retries=0, _strict_response_validation=True)


def test_text(claude):
    answer = claude.messages.create(**ASKED, system="Answer.")
    assert answer.id.startswith("msg_") and answer.role == "assistant" and answer.model == "demo-large"
    [block] = answer.content
    assert block.type == "text" and block.text == "Paris" and answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0


def test_the_limit_and_stop_sequences(claude):
    assert claude.messages.create(**ASKED | {"max_tokens": 1}).stop_reason == "max_tokens"
    answer = claude.messages.create(**ASKED, stop_sequences=["r"])
    assert (answer.stop_reason, answer.stop_sequence, answer.content[0].text) == ("stop_sequence", "r", "Pa")


def test_the_stream_helper(claude):
    with claude.messages.stream(**ASKED) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == "Paris" and final.usage.output_tokens > 0


def test_tools(claude):
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
        answer = claude.messages.create(**ASKED, tools=[WEATHER], tool_choice=choice)
        [call] = [block for block in answer.content if block.type == "tool_use"]
        assert call.name == "weather" and isinstance(call.input["city"], str) and answer.stop_reason == "tool_use"


def test_streamed_tools(claude):
    with claude.messages.stream(**ASKED, tools=[WEATHER], tool_choice={"type": "any"}) as stream:
        final = stream.get_final_message()
    [call] = [block for block in final.content if block.type == "tool_use"]
    assert isinstance(call.input["city"], str)


def test_errors(claude):
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(**ASKED | {"model": "claude-9"})
    with pytest.raises(anthropic.BadRequestError) as raised:
        claude.messages.create(**ASKED | {"extra_body": {"temperature": 9}})
    assert raised.value.body["type"] == "error" and raised.value.body["error"]["type"] == "invalid_request_error"
