"""openai-python: tool calls."""

import json
from typing import Literal

import openai
import pytest
from conftest import user
from pydantic import BaseModel


# Short and closed: the demo models have a context of 512 and would fill a free string to the limit.
class Weather(BaseModel):
    city: Literal["Paris", "Rome"]


TOOLS = [openai.pydantic_function_tool(Weather)]
ASKED = {"model": "demo-large", "messages": user("Weather in Paris?"), "temperature": 0, "max_tokens": 110}
NAMED = {"type": "function", "function": {"name": "Weather"}}


def complete(message):
    assert message.content is None
    for call in message.tool_calls:
        assert call.type == "function" and call.id
        assert call.function.name == "Weather"
        Weather.model_validate(json.loads(call.function.arguments))


def test_required(client):
    [choice] = client.chat.completions.create(**ASKED, tools=TOOLS, tool_choice="required").choices
    assert choice.finish_reason == "tool_calls"
    complete(choice.message)


def test_one_of_two(client):
    tools = [{"type": "function", "function": {"name": name}} for name in ("Clock", "Calendar")]
    for name in ("Clock", "Calendar"):
        named = {"type": "function", "function": {"name": name}}
        [choice] = client.chat.completions.create(**ASKED, tools=tools, tool_choice=named).choices
        assert [call.function.name for call in choice.message.tool_calls] == [name]


def test_named(client):
    [choice] = client.chat.completions.create(**ASKED, tools=TOOLS, tool_choice=NAMED).choices
    [call] = choice.message.tool_calls
    assert choice.finish_reason == "stop" and call.function.name == "Weather"
    complete(choice.message)


def test_auto_answers_or_calls(client):
    [choice] = client.chat.completions.create(**ASKED, tools=TOOLS).choices
    if choice.message.tool_calls:
        complete(choice.message)
    else:
        assert choice.message.content is not None and choice.finish_reason in ("stop", "length")


def test_none_calls_nothing(client):
    [choice] = client.chat.completions.create(**ASKED, tools=TOOLS, tool_choice="none").choices
    assert not choice.message.tool_calls and choice.message.content is not None


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_streamed_fragments_add_up(client, choice):
    chunks = list(client.chat.completions.create(**ASKED, tools=TOOLS, tool_choice=choice, stream=True))
    fragments = [call for chunk in chunks for one in chunk.choices for call in one.delta.tool_calls or []]
    calls = {}
    for fragment in fragments:
        if fragment.index not in calls:
            assert fragment.index == len(calls) and fragment.id and fragment.function.name
            calls[fragment.index] = [fragment.function.name, ""]
        else:
            assert fragment.id is None and fragment.function.name is None
        calls[fragment.index][1] += fragment.function.arguments or ""
    assert len(fragments) > len(calls)
    whole = client.chat.completions.create(**ASKED, tools=TOOLS, tool_choice=choice).choices[0]
    assert list(calls.values()) == [
        [call.function.name, call.function.arguments] for call in whole.message.tool_calls
    ]
    ends = [one.finish_reason for chunk in chunks for one in chunk.choices if one.finish_reason]
    assert ends == [whole.finish_reason]


def test_the_stream_helper_parses_the_arguments(client):
    with client.chat.completions.stream(**ASKED, tools=TOOLS, tool_choice="required") as stream:
        events = list(stream)
        final = stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)
    assert any(event.type == "tool_calls.function.arguments.delta" for event in events)
    assert any(event.type == "tool_calls.function.arguments.done" for event in events)


def test_parse(client):
    answer = client.chat.completions.parse(**ASKED, tools=TOOLS, tool_choice=NAMED)
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Weather)


def test_the_result_goes_back(client):
    first = client.chat.completions.create(**ASKED, tools=TOOLS, tool_choice=NAMED).choices[0].message
    turns = [
        *ASKED["messages"],
        first.model_dump(exclude_unset=True),
        {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": '{"sky": "clear"}'},
    ]
    asked = ASKED | {"messages": turns, "max_tokens": 10}
    [choice] = client.chat.completions.create(**asked, tools=TOOLS, tool_choice="none").choices
    assert choice.message.content is not None and not choice.message.tool_calls


def test_a_tool_that_is_not_there(client):
    named = {"type": "function", "function": {"name": "Nobody"}}
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**ASKED, tools=TOOLS, tool_choice=named)
    assert raised.value.param.startswith("tool_choice")
