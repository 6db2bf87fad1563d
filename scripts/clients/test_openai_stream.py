"""openai-python, sync: streams and the helpers that add them up."""

import time
from typing import Literal

from conftest import CAPITAL, ENDLESS
from openai import NotFoundError
from pydantic import BaseModel


class Country(BaseModel):
    capital: Literal["Paris", "Rome"]


def test_chunks_add_up_to_the_answer(client):
    asked = {"model": "demo-large", "messages": CAPITAL, "temperature": 0}
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert all(chunk.object == "chat.completion.chunk" and chunk.id == chunks[0].id for chunk in chunks)
    assert all(len(chunk.choices) == 1 and "usage" not in chunk.model_fields_set for chunk in chunks)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert [delta.role for delta in deltas if delta.role] == ["assistant"] and deltas[0].role
    whole = client.chat.completions.create(**asked)
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].model_extra["messplus"]["energy"]["joules"] > 0


def test_usage_comes_last_and_only_when_asked_for(client):
    *chunks, last = client.chat.completions.create(
        model="demo-large", messages=CAPITAL, stream=True, stream_options={"include_usage": True}
    )
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks)
    assert last.choices == [] and last.usage.total_tokens > last.usage.prompt_tokens > 0
    assert last.model_extra["messplus"]["model"] == "demo-large"


def test_several_choices_keep_their_places(client):
    asked = {"model": "demo-small", "messages": CAPITAL, "n": 3, "seed": 3, "temperature": 1.2, "max_tokens": 10}
    texts, ends = ["", "", ""], []
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends += [choice.index] if choice.finish_reason else []
    whole = client.chat.completions.create(**asked)
    assert texts == [choice.message.content for choice in whole.choices] and sorted(ends) == [0, 1, 2]


def test_logprobs_stream(client):
    asked = {"model": "demo-large", "messages": CAPITAL, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    chunks = client.chat.completions.create(**asked, stream=True)
    streamed = [t for c in chunks for choice in c.choices if choice.logprobs for t in choice.logprobs.content]
    whole = client.chat.completions.create(**asked).choices[0].logprobs.content
    assert [token.token for token in streamed] == [token.token for token in whole]


def test_the_stream_helper(client):
    with client.chat.completions.stream(
        model="demo-large", messages=CAPITAL, temperature=0, stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    assert "".join(event.delta for event in events if event.type == "content.delta") == "Paris"
    assert [event.content for event in events if event.type == "content.done"] == ["Paris"]
    message = final.choices[0].message
    assert (message.role, message.content) == ("assistant", "Paris")
    assert final.usage.total_tokens == final.usage.prompt_tokens + final.usage.completion_tokens


def test_the_stream_helper_parses(client):
    with client.chat.completions.stream(
        model="demo-large", messages=CAPITAL, temperature=0, response_format=Country, max_tokens=120
    ) as stream:
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Country)


def test_leaving_cancels(client):
    stream = client.chat.completions.create(**ENDLESS, stream=True)
    request = stream.response.headers["x-request-id"]
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 60
    while (record := logged(client, request)) is None or not record["energy"]["final"]:
        assert time.monotonic() < deadline, f"{request} never settled: {record}"
        time.sleep(0.05)
    assert record["finish_reason"] == "cancelled" and record["energy"]["prefill_joules"] > 0


def logged(client, request):
    """A request's record, which is written when it ends."""
    try:
        return client.get(f"/requests/{request}", cast_to=object)
    except NotFoundError:
        return None


def test_events_are_marked_as_such(client):
    raw = client.chat.completions.with_raw_response.create(model="demo-small", messages=CAPITAL, stream=True)
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.headers["cache-control"] == "no-cache" and raw.headers["x-accel-buffering"] == "no"
    assert raw.headers["x-model"] == "demo-small"
