"""SIGTERM under load: streams under way finish, nothing new is taken, the process ends with 0.

python scripts/load/drain.py
"""

import asyncio
import signal
import time

from common import Report, Server, arguments, call, long_answer


async def main():
    given = arguments(__doc__, streams=(64, "streams under way"), tokens=(200, "tokens of an answer"))
    report = Report()
    with Server(given.binary, f"max_queue = {2 * given.streams}") as server:
        body = long_answer(given.tokens, stream=True)
        streams = [asyncio.create_task(call(server, body)) for _ in range(given.streams)]
        await asyncio.sleep(0.5)
        begun = time.perf_counter()
        server.process.send_signal(signal.SIGTERM)
        refused, taken = 0, 0
        # What comes now is refused at the door, or told 503 on a connection that was accepted just before.
        while not all(task.done() for task in streams):
            try:
                status, *_ = await call(server, long_answer(1))
                taken += status != 503
            except (OSError, asyncio.IncompleteReadError):
                refused += 1
            await asyncio.sleep(0.02)
        done = await asyncio.gather(*streams, return_exceptions=True)
        whole = [answer for answer in done if isinstance(answer, tuple) and answer[0] == 200
                 and answer[2].endswith(b"data: [DONE]\n\n") and b'"finish_reason":"length"' in answer[2]]
        code = await asyncio.to_thread(server.process.wait, 60)
        seconds = time.perf_counter() - begun
        report.row("streams that finished whole", f"{len(whole)} of {given.streams}", "all", len(whole) == given.streams)
        report.row("new requests taken after the signal", taken, "0", taken == 0)
        report.row("new requests refused", refused)
        report.row("exit status", code, "0", code == 0)
        report.row("from the signal to the end", f"{seconds:.1f} s")
    report.end()


asyncio.run(main())
