"""Sends requests to the replicas of a local service, in turn, at a rate that changes over time. Standard library only.

    python examples/local/load.py aiops-data/local/endpoints.json web --rate 5 --peak 60 --period 600 --for 1800

The rate is a day in short: `--rate` at the bottom, `--peak` at the top of a raised cosine of `--period` seconds, in step
with the wall clock, or a square wave with `--square`. Once a line is printed every ten seconds: sent, answered, rejected,
failed, and the median and 95th percentile of the answer time.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import math
import queue
import sys
import threading
import time
from collections import Counter
from pathlib import Path


def targets(path: Path, service: str) -> list[str]:
    """Addresses of the ready replicas, as the backend wrote them down."""
    try:
        rows = json.loads(path.read_text())["services"][service]["endpoints"]
    except (OSError, ValueError, KeyError):
        return []
    return [row["address"] for row in rows if row["ready"]]


def rate_at(now: float, options: argparse.Namespace) -> float:
    """Requests per second that are due at wall-clock time `now`."""
    phase = (now % options.period) / options.period
    share = float(phase >= 0.5) if options.square else (1 - math.cos(2 * math.pi * phase)) / 2
    return options.rate + (options.peak - options.rate) * share


class Tally:
    """Outcomes since the last line."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.seconds: list[float] = []

    def add(self, outcome: str, seconds: float) -> None:
        """Count one request."""
        with self.lock:
            self.counts[outcome] += 1
            if outcome == "answered":
                self.seconds.append(seconds)

    def line(self, rate: float, replicas: int) -> str:
        """One line for people, and start again."""
        with self.lock:
            counts, seconds = self.counts, sorted(self.seconds)
            self.counts, self.seconds = Counter(), []
        p50, p95 = (seconds[int(q * (len(seconds) - 1))] if seconds else math.nan for q in (0.5, 0.95))
        said = " ".join(f"{name}={counts[name]}" for name in ("answered", "rejected", "failed", "unserved"))
        return f"{time.strftime('%H:%M:%S')} rate={rate:.1f}/s replicas={replicas} {said} p50={p50:.3f}s p95={p95:.3f}s"


def work(due: queue.Queue[str | None], tally: Tally) -> None:
    """Send what is due, one request at a time, until told to end."""
    while (address := due.get()) is not None:
        started = time.monotonic()
        connection = http.client.HTTPConnection(address, timeout=5)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            outcome = "answered" if answer.status == 200 else "rejected"
        except (OSError, http.client.HTTPException):
            outcome = "failed"
        finally:
            connection.close()
        tally.add(outcome, time.monotonic() - started)


def main() -> int:
    """Send until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoints", type=Path)
    parser.add_argument("service")
    parser.add_argument("--rate", type=float, default=5.0)
    parser.add_argument("--peak", type=float, default=60.0)
    parser.add_argument("--period", type=float, default=600.0)
    parser.add_argument("--square", action="store_true")
    parser.add_argument("--for", dest="seconds", type=float, default=600.0)
    parser.add_argument("--workers", type=int, default=64)
    options = parser.parse_args()
    due: queue.Queue[str | None] = queue.Queue()
    tally = Tally()
    threads = [threading.Thread(target=work, args=(due, tally), daemon=True) for _ in range(options.workers)]
    for thread in threads:
        thread.start()
    send(options, due, tally)
    for _ in threads:
        due.put(None)
    return 0


def send(options: argparse.Namespace, due: queue.Queue[str | None], tally: Tally) -> None:
    """Put requests into the queue at the due rate, round robin over the replicas of the moment."""
    started = last = said = time.monotonic()
    owed, turn, ready = 0.0, itertools.count(), targets(options.endpoints, options.service)
    while (now := time.monotonic()) < started + options.seconds:
        owed, last = owed + rate_at(time.time(), options) * (now - last), now
        ready = targets(options.endpoints, options.service)
        while owed >= 1:
            owed -= 1
            if ready:
                due.put(ready[next(turn) % len(ready)])
            else:
                tally.add("unserved", 0.0)
        if now - said >= 10:
            print(tally.line(rate_at(time.time(), options), len(ready)), flush=True)
            said = now
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
