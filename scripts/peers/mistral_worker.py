"""mistral.rs through its Python Runner, one thread a request, streaming. Its wheel has no server of its own.

Reads one JSON line a job on stdin, {"prompts": [text...], "tokens": N}, and answers one line on stdout.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

# Only chats stream there: a template that adds nothing makes a chat of one message a plain prompt.
PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seqs", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    answers = os.fdopen(os.dup(1), "w")  # its log goes to stdout
    os.dup2(2, 1)
    from mistralrs import ChatCompletionRequest, Runner, Which

    with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
        template.write(PLAIN)
        template.flush()
        runner = Runner(which=Which.GGUF(str(args.model.parent), args.model.name), max_seqs=args.seqs, jinja_explicit=template.name)
    sending = threading.Lock()  # two sends at once raise "Already borrowed"
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        found = [None] * len(job["prompts"])
        start = time.perf_counter()

        def ask(index, text):
            request = ChatCompletionRequest(messages=[{"role": "user", "content": text}], model="default", max_tokens=job["tokens"], temperature=0.0, top_k=1,
                                            stream=True, ignore_eos=True)
            stamps, usage = [], None
            try:
                with sending:
                    chunks = runner.send_chat_completion_request(request)
                for chunk in chunks:
                    if chunk.choices and chunk.choices[0].delta.content:
                        stamps.append(time.perf_counter() - start)
                    usage = chunk.usage or usage
            except Exception as error:  # whatever the wheel raises belongs into the report
                found[index] = {"error": str(error)}
                return
            found[index] = {"prompt_tokens": usage.prompt_tokens if usage else None, "tokens": usage.completion_tokens if usage else len(stamps),
                            "stamps": stamps}

        threads = [threading.Thread(target=ask, args=pair) for pair in enumerate(job["prompts"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
