"""openai-python, sync: chat completions."""

import json
import re
from typing import Literal

import pytest
from conftest import CAPITAL, ENDLESS, user
from openai import LengthFinishReasonError
from openai.types.chat import ChatCompletion
from pydantic import BaseModel
from server import MODELS


class Country(BaseModel):
    """Short, for models that would fill a free string to the limit."""

    capital: Literal["Paris", "Rome"]
    large: bool


def test_auto_says_who_answered_and_what_it_cost(client):
    answer = client.chat.completions.create(model="auto", messages=CAPITAL)
    assert isinstance(answer, ChatCompletion) and answer.id.startswith("chatcmpl-")
    [choice] = answer.choices
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason == "stop"
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    extra = answer.model_extra["messplus"]
    assert answer.model == extra["model"] in MODELS
    assert extra["energy"]["joules"] > 0 and extra["request_id"] == answer._request_id
    assert 0 < extra["timing"]["first_token_ms"] <= extra["timing"]["total_ms"]
    assert set(extra["satisfaction"]) == set(extra["expected_joules"]) == set(MODELS)


def test_a_named_model_answers(client):
    answer = client.chat.completions.create(model="demo-large", messages=CAPITAL, temperature=0)
    assert (answer.model, answer.choices[0].message.content) == ("demo-large", "Paris")


def test_headers_tell_the_model_the_joules_and_the_request(client):
    raw = client.chat.completions.with_raw_response.create(model="demo-small", messages=CAPITAL)
    assert raw.headers["x-model"] == "demo-small" and float(raw.headers["x-energy-joules"]) > 0
    assert raw.headers["x-request-id"] == raw.parse().model_extra["messplus"]["request_id"]


def test_every_nullable_field_may_be_null(client):
    nulls = "temperature top_p n stop seed max_tokens logit_bias logprobs top_logprobs user tools tool_choice metadata"
    nulls += " response_format stream_options presence_penalty frequency_penalty parallel_tool_calls store service_tier"
    body = dict.fromkeys(nulls.split())
    assert client.chat.completions.create(model="demo-small", messages=CAPITAL, extra_body=body).choices


def test_developer_role_and_content_parts(client):
    parts = [{"type": "text", "text": "What is the capital of France?"}]
    asked = [{"role": "developer", "content": "Answer."}, {"role": "user", "content": parts}]
    plain = [{"role": "system", "content": "Answer."}, *CAPITAL]
    ask = lambda messages: client.chat.completions.create(model="demo-large", messages=messages, temperature=0)
    one, other = ask(asked), ask(plain)
    assert one.choices[0].message.content == other.choices[0].message.content
    assert one.usage.prompt_tokens == other.usage.prompt_tokens


def test_n_seed_and_temperature(client):
    ask = lambda: client.chat.completions.create(
        model="demo-small", messages=CAPITAL, n=3, seed=7, temperature=1.5, max_completion_tokens=12
    )
    texts = lambda answer: [choice.message.content for choice in answer.choices]
    first = ask()
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert texts(first) == texts(ask()) and len(set(texts(first))) > 1


def test_stop_cuts_before_the_string(client):
    ask = lambda **more: client.chat.completions.create(model="demo-large", messages=CAPITAL, temperature=0, **more)
    assert ask().choices[0].message.content == "Paris"
    for stop in ("r", ["x", "r"]):
        [choice] = ask(stop=stop).choices
        assert (choice.message.content, choice.finish_reason) == ("Pa", "stop")


def test_logprobs(client):
    answer = client.chat.completions.create(
        model="demo-large", messages=CAPITAL, temperature=0, logprobs=True, top_logprobs=3
    )
    [choice] = answer.choices
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens).startswith(choice.message.content)
    for token in tokens:
        assert len(token.top_logprobs) == 3 and token.top_logprobs[0].token == token.token
        assert token.logprob == token.top_logprobs[0].logprob <= 0


def test_the_token_limit_ends_with_length(client):
    [choice] = client.chat.completions.create(**ENDLESS | {"max_tokens": 5}).choices
    assert choice.finish_reason == "length"


def test_parse_returns_the_object(client):
    answer = client.chat.completions.parse(
        model="demo-large", messages=CAPITAL, response_format=Country, temperature=0, max_tokens=120
    )
    assert isinstance(answer.choices[0].message.parsed, Country)


def test_parse_raises_when_cut_short(client):
    with pytest.raises(LengthFinishReasonError):
        client.chat.completions.parse(model="demo-large", messages=CAPITAL, response_format=Country, max_tokens=2)


def test_json_object_and_regex(client):
    ask = lambda **format: client.chat.completions.create(
        model="demo-small", messages=user("3 + 4?"), temperature=0, max_tokens=100, extra_body={"response_format": format}
    )
    assert re.fullmatch("[0-9]{3}", ask(type="regex", pattern="[0-9]{3}").choices[0].message.content)
    schema = {"type": "object", "properties": {"n": {"enum": [6, 7]}}, "required": ["n"], "additionalProperties": False}
    answer = ask(type="json_schema", json_schema={"name": "n", "schema": schema, "strict": True})
    assert json.loads(answer.choices[0].message.content)["n"] in (6, 7)
    assert ask(type="json_object").choices[0].message.content.startswith("{")


def test_a_reference_is_judged_by_the_server(client):
    reference = {"messplus": {"reference": "Paris", "match": "exact"}}
    answer = client.chat.completions.create(model="demo-large", messages=CAPITAL, temperature=0, extra_body=reference)
    assert answer.model_extra["messplus"]["satisfied"] == 1


def test_feedback(client):
    answer = client.chat.completions.create(model="auto", messages=CAPITAL)
    told = {"request_id": answer._request_id, "satisfied": True}
    for _ in range(2):
        assert client.post("/feedback", cast_to=object, body=told)["satisfied"] == 1
    record = client.get(f"/requests/{answer._request_id}", cast_to=object)
    assert record["feedback"]["satisfied"] == 1 and record["model"] == answer.model


def test_models(client):
    listed = {model.id: model for model in client.models.list()}
    assert set(listed) == {"auto", *MODELS}
    assert client.models.retrieve("demo-medium") == listed["demo-medium"]
