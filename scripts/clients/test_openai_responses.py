"""openai-python: the Responses API."""

from typing import Literal

import openai
import pytest
from conftest import CAPITAL
from openai.types.responses import Response
from pydantic import BaseModel
from server import MODELS

QUESTION = CAPITAL[0]["content"]
ASKED = {"model": "demo-large", "input": QUESTION, "temperature": 0, "max_output_tokens": 160}
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Country(BaseModel):
    capital: Literal["Paris", "Rome"]


def test_text(client):
    answer = client.responses.create(**ASKED)
    assert isinstance(answer, Response) and answer.id.startswith("resp_") and answer.status == "completed"
    assert answer.output_text == "Paris" and answer.error is None
    usage = answer.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0
    assert answer.model_extra["messplus"]["energy"]["joules"] > 0


def test_the_router_and_instructions(client):
    answer = client.responses.create(model="auto", instructions="Answer.", input=CAPITAL)
    assert answer.model in MODELS and answer.output_text


def test_cut_short(client):
    answer = client.responses.create(model="demo-large", input=QUESTION, max_output_tokens=1)
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"


def test_stream(client):
    events = list(client.responses.create(**ASKED, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == events[-1].response.output_text == "Paris"
    assert events[-1].response.usage.output_tokens > 0


def test_the_stream_helper(client):
    with client.responses.stream(**ASKED) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == "Paris"


def test_parse(client):
    answer = client.responses.parse(**ASKED, text_format=Country)
    assert isinstance(answer.output_parsed, Country)


def test_tools(client):
    answer = client.responses.create(**ASKED, tools=[WEATHER], tool_choice="required")
    [call] = [item for item in answer.output if item.type == "function_call"]
    assert call.name == "weather" and call.call_id and "city" in call.arguments
    told = {"type": "function_call_output", "call_id": call.call_id, "output": "clear"}
    turns = [{"role": "user", "content": QUESTION}, call.model_dump(exclude_unset=True), told]
    again = client.responses.create(**ASKED | {"input": turns}, tools=[WEATHER], tool_choice="none")
    assert again.output_text


def test_streamed_tools(client):
    with client.responses.stream(**ASKED, tools=[WEATHER], tool_choice="required") as stream:
        events = list(stream)
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    [done] = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert "".join(deltas) == done.arguments


def test_stored_and_carried_on(client):
    first = client.responses.create(**ASKED, store=True)
    assert client.responses.retrieve(first.id).output_text == first.output_text
    second = client.responses.create(
        **ASKED | {"input": "What is the capital of Italy?"}, previous_response_id=first.id
    )
    assert second.previous_response_id == first.id and second.usage.input_tokens > first.usage.input_tokens
    listed = client.responses.input_items.list(first.id)
    assert [item.role for item in listed] == ["user"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_not_stored(client):
    answer = client.responses.create(**ASKED, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_errors(client):
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="gpt-9", input=QUESTION)
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(**ASKED | {"temperature": 9})
    assert raised.value.param == "temperature"


async def test_async(async_client):
    answer = await async_client.responses.create(**ASKED)
    stream = await async_client.responses.create(**ASKED, stream=True)
    deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
    assert "".join(deltas) == answer.output_text == "Paris"
