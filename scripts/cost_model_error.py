"""How far the router's expected joules are from the final ones, on the demo zoo.

Starts a server of its own, lets it learn from 300 demo questions, then sends more and compares, request by request,
the joules that the decision expected of the chosen model with those that were booked in the end. Needs nothing but
Python and the built binary; run it on a quiet machine, since the demo zoo's joules are milliseconds of one core.

    cargo build --release && python scripts/cost_model_error.py
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import urllib.request


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/messplus")
    parser.add_argument("--zoo", help="a zoo file; without it the demo zoo")
    parser.add_argument("--learn", type=int, default=300, help="requests before the comparison begins")
    parser.add_argument("--requests", type=int, default=1000, help="requests compared")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--rate", type=float, help="requests a second; without it one follows another at once")
    return parser.parse_args()


def get(url):
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def records(url, count):
    """The latest `count` requests."""
    found, after = [], ""
    while len(found) < count:
        page = get(f"{url}/v1/requests?limit=100{after}")
        found += page["data"]
        if not page["has_more"]:
            break
        after = f"&before={page['data'][-1]['id']}"
    return found[:count]


def drive(args, url, requests, seed):
    command = [args.binary, "load", "--url", url, "--requests", str(requests), "--baseline-sample", "0",
               "--concurrency", str(args.concurrency), "--seed", str(seed), "--json"]
    if args.rate:
        command += ["--rate", str(args.rate)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def median(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def line(name, pairs):
    errors = [abs(expected / joules - 1) for expected, joules in pairs]
    bias = sum(expected for expected, _ in pairs) / sum(joules for _, joules in pairs) - 1
    mean = sum(joules for _, joules in pairs) / len(pairs)
    print(f"{name:<14} {len(pairs):>5} {mean:>12.5f} {100 * median(errors):>15.1f} % {100 * bias:>+8.1f} %")


def main():
    args = parsed()
    with tempfile.TemporaryDirectory() as folder:
        serve = [args.binary, "serve", "--listen", "127.0.0.1:0", "--data-dir", folder]
        if args.zoo:
            serve += ["--zoo", args.zoo]
        server = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            url = next(m.group(1) for m in (re.match(r"listening on (\S+)", text) for text in server.stdout) if m)
            drive(args, url, args.learn, 1)
            drive(args, url, args.requests, 2)
            seen = records(url, args.requests)
            overall = get(f"{url}/v1/router")["cost_model"]
        finally:
            server.terminate()
            server.wait()
    pairs = {}
    for record in seen:
        decision, energy = record["decision"], record["energy"]
        if decision and energy and energy["final"]:
            joules = energy["prefill_joules"] + energy["decode_joules"]
            pairs.setdefault(record["model"], []).append((decision["expected_joules"][record["model"]], joules))
    if not pairs:
        sys.exit("no request was compared: the server's records hold no final joules")
    pace = f"{args.rate} a second" if args.rate else f"{args.concurrency} at a time"
    print(f"after {args.learn} requests, {pace}: expected against final joules")
    print(f"{'model':<14} {'n':>5} {'J/request':>12} {'median |error|':>17} {'bias':>10}")
    for model in sorted(pairs):
        line(model, pairs[model])
    line("all", [pair for one in pairs.values() for pair in one])
    for model, known in sorted(overall.items()):
        if isinstance(known, dict) and "given_length" in known and known["given_length"]:
            print(f"{model}: with the length known, median {100 * known['given_length']['median_error']:.1f} %")


main()
