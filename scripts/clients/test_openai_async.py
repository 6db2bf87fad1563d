"""openai-python, async: many at once, streams, helpers."""

import asyncio

from conftest import CAPITAL, user


async def test_many_at_once_are_not_crossed(async_client):
    questions = [f"What is {n} + {n + 1}?" for n in range(10, 26)]
    ask = lambda question: async_client.chat.completions.create(
        model="demo-large", messages=user(question), temperature=0
    )
    answers = await asyncio.gather(*map(ask, questions))
    right = sum(str(2 * n + 1) in answer.choices[0].message.content for n, answer in zip(range(10, 26), answers))
    assert right >= 14, [answer.choices[0].message.content for answer in answers]
    assert len({answer._request_id for answer in answers}) == len(questions)


async def test_streams_at_once(async_client):
    async def text(model):
        stream = await async_client.chat.completions.create(
            model=model, messages=CAPITAL, temperature=0, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage.completion_tokens > 0
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    assert set(await asyncio.gather(*(text("demo-large") for _ in range(12)))) == {"Paris"}


async def test_the_stream_helper(async_client):
    async with async_client.chat.completions.stream(model="demo-large", messages=CAPITAL, temperature=0) as stream:
        deltas = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == "Paris"


async def test_models(async_client):
    listed = [model.id async for model in async_client.models.list()]
    assert "auto" in listed
