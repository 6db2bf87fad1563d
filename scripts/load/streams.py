"""A thousand concurrent SSE streams on the demo zoo, over and over: all complete, memory flat.

python scripts/load/streams.py
"""

import asyncio
import time

from common import Report, Server, arguments, call, chat, mib, ms, percentile

QUESTIONS = ["What is the capital of France?", "What is 17 + 25?", "Count from 3 to 12.", "Spell the word river."]


async def one(server, at, tokens):
    body = chat("auto", QUESTIONS[at % len(QUESTIONS)], stream=True, max_tokens=tokens, stream_options={"include_usage": True})
    status, _, events, first, whole = await call(server, body)
    complete = status == 200 and events.endswith(b"data: [DONE]\n\n") and b'"finish_reason":"' in events and b'"error"' not in events
    return complete, first, whole


async def main():
    given = arguments(__doc__, streams=(1000, "streams at once"), rounds=(10, "rounds"), tokens=(48, "tokens of an answer at most"))
    report = Report()
    with Server(given.binary, f"max_queue = {2 * given.streams}") as server:
        # The first rounds fill caches and arenas; memory is compared with the most it stood at after them.
        start = 0
        for _ in range(2):
            await asyncio.gather(*(one(server, at, given.tokens) for at in range(given.streams)))
            start = max(start, server.memory())
        print(f"warm: {mib(start)}")
        failed, memory, waits = 0, [], []
        for number in range(given.rounds):
            begun = time.perf_counter()
            done = await asyncio.gather(*(one(server, at, given.tokens) for at in range(given.streams)))
            failed += sum(not complete for complete, _, _ in done)
            waits += [whole for _, _, whole in done]
            memory.append(server.memory())
            print(f"round {number + 1}: {time.perf_counter() - begun:.1f} s, {mib(memory[-1])}", flush=True)
        growth = max(abs(seen / start - 1) for seen in memory)
        report.row("streams that did not complete", failed, "0", failed == 0)
        report.row("memory after a round against the warm server", f"{100 * growth:.1f} %", "≤ 10 %", growth <= 0.10)
        report.row("memory at its most", mib(server.most_memory()))
        report.row("a stream, median and 99 %", f"{ms(percentile(waits, .5))}, {ms(percentile(waits, .99))}")
    report.end()


asyncio.run(main())
