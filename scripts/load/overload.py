"""Ten times as many clients as the server has capacity for, for a minute: who is admitted is answered as fast as under full
load, who is not is told so at once, and nobody is lost.

Capacity is measured first: a fixed number of clients that send the next request when the last is answered keeps the lane
full. Then ten times the requests a second that they got come at an even pace, whether or not the server keeps up.

python scripts/load/overload.py
"""

import asyncio
import json
import time

from common import Report, Server, arguments, call, long_answer, metrics, ms, percentile


async def capacity(server, clients, seconds, body):
    """Requests a second and latencies of clients that never pause."""
    waits, until = [], time.perf_counter() + seconds

    async def client():
        while time.perf_counter() < until:
            status, _, _, _, whole = await call(server, body)
            if status == 200:
                waits.append(whole)
            else:
                # All come at the same moment at first, and the queue is short.
                assert status == 429, status
                await asyncio.sleep(0.01)

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(waits) / seconds, waits


async def flood(server, rate, seconds, body):
    """Requests at an even pace; how each one ended."""
    admitted, refused, odd, told = [], [], [], []

    async def one():
        try:
            status, headers, answer, first, whole = await call(server, body)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as problem:
            odd.append(repr(problem))
            return
        if status == 200 and json.loads(answer)["choices"]:
            admitted.append(whole)
        elif status == 429:
            refused.append(first)
            told.append(int(headers["retry-after"]))
        else:
            odd.append(status)

    tasks, begun, sent = set(), time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < seconds:
        while sent < rate * now:
            task = asyncio.create_task(one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    return sent, admitted, refused, odd, told


async def main():
    given = arguments(
        __doc__, seconds=(60, "how long"), times=(10, "times the capacity"), clients=(24, "clients that make full load"),
        queue=(8, "max_queue of the server"), tokens=(480, "tokens of an answer; short ones make a capacity that no client on the same machine can pass tenfold"),
    )
    report = Report()
    body = long_answer(given.tokens, "demo-large")
    # Room for as many sequences as make full load: what else is admitted waits in the queue.
    lines = f"max_batch = {given.clients}\nmax_queue = {given.queue}"
    with Server(given.binary, lines, ["large"]) as server:
        await capacity(server, given.clients, 2, body)
        rate, full = await capacity(server, given.clients, 10, body)
        print(f"capacity: {rate:.1f} requests a second with {given.clients} clients, median {ms(percentile(full, .5))}", flush=True)
        before = metrics((await call(server, path="/metrics"))[2])
        sent, admitted, refused, odd, told = await flood(server, given.times * rate, given.seconds, body)
        after = metrics((await call(server, path="/metrics"))[2])

    def counted(outcome):
        mine = [series for series in after if series.startswith("messplus_requests_total") and f'outcome="{outcome}"' in series]
        return sum(after[series] - before.get(series, 0) for series in mine)

    report.row("requests sent", f"{sent} ({sent / given.seconds:.0f} a second)")
    report.row("admitted", f"{len(admitted)} ({len(admitted) / given.seconds:.1f} a second)")
    report.row("neither answered nor refused", len(odd) + sent - len(admitted) - len(refused) - len(odd), "0",
               not odd and sent == len(admitted) + len(refused))
    if odd:
        report.row("such as", odd[0])
    report.row("server counts the same", f"{counted('answered'):.0f} + {counted('rejected'):.0f}", f"{len(admitted)} + {len(refused)}",
               counted("answered") == len(admitted) and counted("rejected") == len(refused))
    for name, share in (("median", 0.5), ("95 %", 0.95)):
        ratio = percentile(admitted, share) / percentile(full, share)
        report.row(f"latency of the admitted against full load, {name}", f"{ratio:.2f} × ({ms(percentile(admitted, share))})", "≤ 2 ×", ratio <= 2)
    report.row("a refusal, median", ms(percentile(refused, 0.5)), "< 10 ms", percentile(refused, 0.5) < 0.010)
    report.row("a refusal, 99 %", ms(percentile(refused, 0.99)), "< 10 ms", percentile(refused, 0.99) < 0.010)
    report.row("Retry-After, least and most", f"{min(told, default=0)} s, {max(told, default=0)} s")
    report.end()


asyncio.run(main())
