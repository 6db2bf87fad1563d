"""One burst of streamed completions over HTTP, as light as Python allows: the server needs the cores."""

import http.client
import json
import threading
import time


def one(port, body, start, found, index):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=900)
    lines = []
    try:
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            found[index] = {"error": f"{answer.status}: {answer.read(400).decode(errors='replace')}"}
            return
        for line in answer:
            if line.startswith(b"data: {"):
                lines.append((time.perf_counter() - start, line))
    except (OSError, http.client.HTTPException) as error:
        found[index] = {"error": repr(error)}
        return
    finally:
        connection.close()
    stamps, usage, reason = [], None, None
    for stamp, line in lines:
        chunk = json.loads(line[6:])
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices", ()):
            reason = choice.get("finish_reason") or reason
            if choice.get("text"):
                stamps.append(stamp)
    tokens = usage["completion_tokens"] if usage else json.loads(body)["max_tokens"] if reason == "length" else None
    found[index] = {"prompt_tokens": usage and usage["prompt_tokens"], "tokens": tokens, "stamps": stamps}
    if not stamps or tokens is None:
        found[index] = {"error": f"the stream ended ({reason}) without saying how many tokens it had"}


def burst(port, model, prompts, tokens, usage=True):
    """All prompts at once. One record a prompt: prompt_tokens, tokens, stamps (seconds since the start, one a chunk with text)."""
    bodies = []
    for text in prompts:
        body = {"model": model, "prompt": text, "max_tokens": tokens, "temperature": 0, "stream": True}
        if usage:
            body["stream_options"] = {"include_usage": True}
        bodies.append(json.dumps(body))
    found = [None] * len(prompts)
    start = time.perf_counter()
    threads = [threading.Thread(target=one, args=(port, body, start, found, index)) for index, body in enumerate(bodies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
