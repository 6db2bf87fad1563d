"""LangChain's ChatOpenAI."""

from typing import Literal

import pytest
from conftest import DUMMY_KEY
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import BadRequestError
from pydantic import BaseModel
from server import MODELS

QUESTION = "What is the capital of France?"


class Country(BaseModel):
    """A country."""

    capital: Literal["Paris", "Rome"]


@tool
def weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather of a city."""
    return f"clear in {city}"


@pytest.fixture(scope="module")
def chat(url):
    def make(**more):
        made = {"model": "demo-large", "temperature": 0, "max_retries": 0, "stream_usage": True} | more
        return ChatOpenAI(base_url=f"{url}/v1", api_key=DUMMY_KEY, **made)

    return make


def test_invoke(chat):
    answer = chat(model="auto").invoke([SystemMessage("Answer."), HumanMessage(QUESTION)])
    assert answer.content and answer.response_metadata["model_name"] in MODELS
    assert answer.response_metadata["finish_reason"] == "stop"
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def test_stream_adds_up_and_brings_the_usage(chat):
    whole = None
    for chunk in chat().stream(QUESTION):
        assert isinstance(chunk, AIMessageChunk)
        whole = chunk if whole is None else whole + chunk
    assert whole.content == "Paris" and whole.usage_metadata["output_tokens"] > 0
    assert whole.response_metadata["finish_reason"] == "stop"
    assert whole.response_metadata["model_name"] == "demo-large"


async def test_async(chat):
    assert (await chat().ainvoke(QUESTION)).content == "Paris"
    assert "".join([chunk.content async for chunk in chat().astream(QUESTION)]) == "Paris"


def test_batch_and_a_chain(chat):
    chain = ChatPromptTemplate.from_template("What is the capital of {country}?") | chat()
    answers = chain.batch([{"country": "France"}, {"country": "Italy"}, {"country": "Spain"}])
    assert [answer.content for answer in answers] == ["Paris", "Rome", "Madrid"]


def test_logprobs(chat):
    answer = chat(logprobs=True, top_logprobs=2).invoke(QUESTION)
    assert len(answer.response_metadata["logprobs"]["content"][0]["top_logprobs"]) == 2


def test_errors_come_through(chat):
    with pytest.raises(BadRequestError):
        chat(temperature=5).invoke(QUESTION)


@pytest.mark.parametrize("choice", ["any", "weather"])
def test_bind_tools(chat, choice):
    bound = chat(max_tokens=110).bind_tools([weather], tool_choice=choice, strict=True)
    answer = bound.invoke("Weather in Paris?")
    [call] = answer.tool_calls
    assert call["name"] == "weather" and isinstance(call["args"]["city"], str) and call["id"]
    told = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
    turns = [HumanMessage("Weather in Paris?"), answer, told]
    again = chat(max_tokens=10).bind_tools([weather], tool_choice="none").invoke(turns)
    assert again.content and not again.tool_calls


def test_streamed_tool_calls(chat):
    whole = None
    for chunk in chat(max_tokens=110).bind_tools([weather], tool_choice="any", strict=True).stream("Weather in Paris?"):
        whole = chunk if whole is None else whole + chunk
    [call] = whole.tool_calls
    assert call["name"] == "weather" and isinstance(call["args"]["city"], str)
    assert whole.invalid_tool_calls == [] and whole.usage_metadata["output_tokens"] > 0


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(chat, method):
    structured = chat(max_tokens=160).with_structured_output(Country, method=method, strict=True, include_raw=True)
    answer = structured.invoke(QUESTION)
    assert isinstance(answer["parsed"], Country) and answer["parsing_error"] is None


def test_the_responses_api(chat):
    answer = chat(use_responses_api=True).invoke(QUESTION)
    assert answer.text == "Paris" and answer.usage_metadata["output_tokens"] > 0
    chunks = list(chat(use_responses_api=True).stream(QUESTION))
    assert "".join(chunk.text for chunk in chunks) == "Paris"
