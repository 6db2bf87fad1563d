"""openai-python: what it raises, and that its retries come through."""

import threading
import time

import httpx2
import openai
import pytest
from conftest import CAPITAL, DUMMY_KEY, ENDLESS, user
from openai import OpenAI
from server import Server, demo_zoo, free_port


def refused(kind, call, code, param=None):
    with pytest.raises(kind) as raised:
        call()
    error = raised.value
    assert (error.code, error.param) == (code, param), error.body
    assert error.message and error.body["message"] and error.type and error.request_id.startswith("req_")
    return error


def test_an_unknown_model(client):
    ask = lambda: client.chat.completions.create(model="gpt-9", messages=CAPITAL)
    refused(openai.NotFoundError, ask, "model_not_found", "model")
    refused(openai.NotFoundError, lambda: client.models.retrieve("org/none"), "model_not_found", "model")


def test_an_unknown_promise(client):
    ask = lambda: client.chat.completions.create(model="auto:gold", messages=CAPITAL)
    refused(openai.BadRequestError, ask, "sla_not_found", "model")


def test_a_field_out_of_range(client):
    ask = lambda: client.chat.completions.create(model="auto", messages=CAPITAL, temperature=9)
    refused(openai.BadRequestError, ask, "invalid_value", "temperature")


def test_a_field_of_the_wrong_type(client):
    ask = lambda: client.chat.completions.create(model="auto", messages="hello")
    refused(openai.BadRequestError, ask, "invalid_value", "messages")


def test_a_missing_field(client):
    ask = lambda: client.post("/chat/completions", cast_to=object, body={"model": "auto"})
    refused(openai.BadRequestError, ask, "missing_required_parameter", "messages")


def test_a_prompt_past_the_context(client):
    ask = lambda: client.chat.completions.create(model="demo-small", messages=user("word " * 20_000))
    refused(openai.BadRequestError, ask, "context_length_exceeded", "messages")


def test_contradicting_feedback_is_not_retried(url, client):
    answer = client.chat.completions.create(model="auto", messages=CAPITAL)
    seen = []
    patient = watched(url, seen)
    tell = lambda satisfied: patient.post(
        "/feedback", cast_to=object, body={"request_id": answer._request_id, "satisfied": satisfied}
    )
    tell(True)
    refused(openai.ConflictError, lambda: tell(False), "feedback_conflict", "satisfied")
    assert seen == [200, 409]


def test_a_wrong_key():
    with Server(keys=("right",)) as server:
        url = server.wait()
        ask = lambda key: OpenAI(base_url=f"{url}/v1", api_key=key).chat.completions.create(
            model="demo-small", messages=CAPITAL
        )
        refused(openai.AuthenticationError, lambda: ask("wrong"), "invalid_api_key")
        assert ask("right").choices


def watched(url, seen, key=DUMMY_KEY, then=lambda response: None, retries=20):
    """A client that notes each status it is given."""

    def note(response):
        seen.append(response.status_code)
        then(response)

    http = httpx2.Client(event_hooks={"response": [note]}, timeout=60)
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=retries, http_client=http)


class Crowd:
    """Keeps the one seat of a key taken until told to leave."""

    def __init__(self, url, key):
        self.client = OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
        self.gone = threading.Event()
        self.seated = threading.Event()
        self.thread = threading.Thread(target=self.sit, daemon=True)
        self.thread.start()
        assert self.seated.wait(60)

    def sit(self):
        while not self.gone.is_set():
            try:
                with self.client.chat.completions.create(**ENDLESS, stream=True) as stream:
                    for _ in stream:
                        self.seated.set()
                        if self.gone.is_set():
                            break
            except openai.RateLimitError:
                pass

    def leave(self):
        self.gone.set()


def test_429_says_when_to_come_back_and_the_retry_succeeds():
    with Server(keys=("one",), max_per_key=1) as server:
        url = server.wait()
        seen, waits = [], []

        def busy(response):
            if response.status_code == 429:
                # Clients go by the milliseconds where they are told them.
                exact = response.headers.get("retry-after-ms")
                assert float(response.headers["retry-after"]) >= 1
                waits.append((time.monotonic(), float(exact) / 1000 if exact else 1))
                crowd.leave()
            else:
                waits.append((time.monotonic(), 0))

        crowd = Crowd(url, "one")
        patient = watched(url, seen, "one", busy)
        # The seat is free for a moment between two of the crowd's requests.
        for _ in range(50):
            assert patient.chat.completions.create(model="demo-small", messages=CAPITAL).choices
            if 429 in seen:
                break
        crowd.thread.join(60)
    assert 429 in seen and seen[-1] == 200
    first = seen.index(429)
    (told_at, wait), (came_at, _) = waits[first], waits[first + 1]
    assert wait > 0 and came_at - told_at >= wait


def test_a_full_queue_is_a_rate_limit():
    zoo = "[server]\nmax_queue = 1\n" + demo_zoo()
    with Server(zoo) as server:
        url = server.wait()
        many = {"model": "demo-large", "prompt": ["Count."] * 64, "max_tokens": 200, "logit_bias": {"5": -100}}
        client = OpenAI(base_url=f"{url}/v1", api_key=DUMMY_KEY, max_retries=0)
        error = refused(openai.RateLimitError, lambda: client.completions.create(**many), "queue_full")
        assert 1 <= float(error.response.headers["retry-after"]) <= 120


def test_503_while_loading_and_the_retry_succeeds():
    # It may be loaded before the first request arrives: a zoo of many copies takes its time.
    for copies in (4, 16, 64):
        seen, told = [], []

        def loading(response):
            if response.status_code == 503:
                told.append((float(response.headers["retry-after"]), response.read() and response.json()))

        with Server(demo_zoo(copies), port=free_port()) as server:
            url = server.door()
            assert watched(url, seen, then=loading).chat.completions.create(model="demo-small", messages=CAPITAL).choices
            assert set(seen[:-1]) <= {503} and seen[-1] == 200
        if told:
            break
    assert told, "it was never seen loading"
    for wait, fault in told:
        assert wait >= 1 and fault["error"]["type"] == "server_error" and fault["error"]["message"]
