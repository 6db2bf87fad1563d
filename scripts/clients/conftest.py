"""What the clients' tests share: one server with the demo zoo, and openai-python in its strict mode."""

import os

import pytest
from openai import AsyncOpenAI, OpenAI
from server import Server

# A key is sent although none is asked for: clients that have none send a dummy.
DUMMY_KEY = "DUMMY_KEY"


@pytest.fixture(scope="session")
def url():
    """A server that is up; `run` starts one for all clients, a lone `pytest` its own."""
    if "MESSPLUS_URL" in os.environ:
        yield os.environ["MESSPLUS_URL"]
        return
    with Server() as server:
        yield server.wait()


@pytest.fixture(scope="session")
def client(url):
    """Raises on any answer that is not of the documented shape."""
    return OpenAI(base_url=f"{url}/v1", api_key=DUMMY_KEY, max_retries=0, _strict_response_validation=True)


@pytest.fixture
async def async_client(url):
    async with AsyncOpenAI(
        base_url=f"{url}/v1", api_key=DUMMY_KEY, max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def user(text):
    return [{"role": "user", "content": text}]


CAPITAL = user("What is the capital of France?")
# Without its end token an answer goes on to the limit.
ENDLESS = {"model": "demo-large", "messages": user("Count."), "max_tokens": 200, "logit_bias": {"5": -100}}
