"""Clients who mean no good, while others are served: how these fare, what those are told, and how much memory it takes.

Each abuse lasts as long as its measurement of the others; the last row is the most memory that the server ever had.

python scripts/load/abuse.py
"""

import asyncio
import contextlib
import socket
import time

from common import Report, Server, arguments, call, chat, head, long_answer, mib, ms, percentile

FLOOD = 2000


async def others(server, requests):
    """Latencies of well-behaved clients, four at a time."""
    waits, failures = [], 0

    async def client():
        nonlocal failures
        for _ in range(requests // 4):
            status, _, _, _, whole = await call(server, chat("demo-small", "What is 17 + 25?", max_tokens=16))
            failures += status != 200
            waits.append(whole)

    await asyncio.gather(*(client() for _ in range(4)))
    return waits, failures


async def connection(server, first=b"", buffer=None):
    made = socket.socket()
    if buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.setblocking(False)
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", server.port))
    if first:
        await asyncio.get_running_loop().sock_sendall(made, first)
    return made


def payload(body):
    import json
    text = json.dumps(body).encode()
    return head(len(text)) + text


@contextlib.asynccontextmanager
async def held(server, count, first, buffer=None):
    """So many connections that say this and then nothing."""
    made = await asyncio.gather(*(connection(server, first, buffer) for _ in range(count)))
    try:
        yield made
    finally:
        for each in made:
            each.close()


@contextlib.asynccontextmanager
async def repeated(count, act):
    """So many that do this again and again."""
    async def again():
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await act()

    tasks = [asyncio.create_task(again()) for _ in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def status_of(server, first, then=b"", patience=60):
    """The status that a client is told who says this; 0 for a connection that just ends."""
    loop = asyncio.get_running_loop()
    made = await connection(server, first)
    try:
        if then:
            with contextlib.suppress(OSError):
                await asyncio.wait_for(loop.sock_sendall(made, then), patience)
        with contextlib.suppress(OSError):
            said = await asyncio.wait_for(loop.sock_recv(made, 64), patience)
            return int(said.split()[1]) if said else 0
        return 0
    finally:
        made.close()


async def main():
    given = arguments(__doc__, requests=(200, "requests of the others, per abuse"), clients=(200, "clients who mean no good"))
    report = Report()
    with Server(given.binary, "max_queue = 1024") as server:
        await others(server, 40)
        quiet, _ = await others(server, given.requests)
        start = server.memory()
        print(f"undisturbed: median {ms(percentile(quiet, .5))}, 99 % {ms(percentile(quiet, .99))}, {mib(start)}", flush=True)

        half_body = head(100_000) + b"{" + b" " * 50_000
        slow_head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: "
        stream = payload(long_answer(200, stream=True))
        flood = b"GET /health HTTP/1.1\r\n" + b"".join(b"x-%d: 1\r\n" % at for at in range(FLOOD)) + b"\r\n"

        async def vanish():
            (await connection(server, stream)).close()
            await asyncio.sleep(0.2)

        async def huge():
            await status_of(server, head(100 << 20), b" " * (100 << 20))

        async def header_flood():
            await status_of(server, flood)

        async def dribble(made):
            loop = asyncio.get_running_loop()
            while True:
                for each in made:
                    with contextlib.suppress(OSError):
                        await loop.sock_sendall(each, b"a")
                await asyncio.sleep(0.5)

        abuses = {
            "slow readers of streams": held(server, given.clients // 10, stream, 2048),
            "readers who vanish": repeated(8, vanish),
            "half-sent bodies": held(server, given.clients, half_body),
            "heads that never end (slow-loris)": held(server, given.clients, slow_head),
            "bodies of 100 MB": repeated(2, huge),
            f"heads of {FLOOD} fields": repeated(4, header_flood),
        }
        for name, abuse in abuses.items():
            async with abuse as made:
                drops = asyncio.create_task(dribble(made)) if "loris" in name else None
                begun = time.perf_counter()
                waits, failures = await others(server, given.requests)
                if drops:
                    drops.cancel()
                print(f"{name}: {time.perf_counter() - begun:.1f} s, {mib(server.memory())}", flush=True)
            report.row(f"{name}: others refused or failed", failures, "0", failures == 0)
            slower = percentile(waits, 0.5) / percentile(quiet, 0.5)
            # Streams and floods take computing time that is honestly shared; they must not take turns away.
            report.row(f"{name}: others' median, and 99 %", f"{slower:.1f} × ({ms(percentile(waits, .99))})", "≤ 4 ×", slower <= 4)

        wants = {
            "a body of 100 MB": (await status_of(server, head(100 << 20), b" " * (100 << 20)), {413}),
            "a head of too many fields": (await status_of(server, flood), {431}),
            "a head of 4 MB": (await status_of(server, b"GET /health HTTP/1.1\r\nx: ", b"a" * (4 << 20)), {431, 0}),
            "a body that never comes": (await status_of(server, half_body), {408}),
            "a head that never ends": (await status_of(server, slow_head), {408, 0}),
            "no HTTP at all": (await status_of(server, b"\x00\xff\r\n\r\n"), {400, 0}),
        }
        for name, (status, right) in wants.items():
            report.row(f"{name} is told", status or "nothing", " or ".join(str(s or "nothing") for s in sorted(right)), status in right)
        status, *_ = await call(server, chat("demo-small"))
        report.row("after all that, a request", status, "200", status == 200)
        grown = server.most_memory() - start
        report.row("most memory beyond the start", mib(grown), "≤ 384 MiB", grown <= 384 << 20)
    report.end()


asyncio.run(main())
