"""A small inference server with a real capacity limit, for trying aiops on one machine. Standard library only.

Each replica serves `--slots` requests at a time, each taking `--work-ms` (asleep, as if on an accelerator): its capacity is
slots / work requests per second, whatever the CPU does. Beyond that requests queue, and beyond `--queue` they get 503.
It listens on PORT, is ready after `--start-s` (loading a model), and answers /, /healthz and /metrics.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Counters:
    """What /metrics shows; one lock, for requests are served by many threads."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.slots = threading.Semaphore(options.slots)
        self.lock = threading.Lock()
        self.received = self.rejected = self.answered = self.waiting = 0
        self.seconds = 0.0
        self.ready_at = time.monotonic() + options.start_s

    def enter(self) -> bool:
        """Count a request in; False where the queue is full."""
        with self.lock:
            self.received += 1
            full = self.waiting >= self.options.slots + self.options.queue
            self.rejected += full
            self.waiting += not full
            return not full

    def leave(self, seconds: float) -> None:
        """Count an answered request out."""
        with self.lock:
            self.waiting -= 1
            self.answered += 1
            self.seconds += seconds

    def text(self) -> str:
        """The Prometheus text of it all."""
        with self.lock:
            rows = (
                ("http_requests_total", "counter", self.received),
                ("http_requests_rejected_total", "counter", self.rejected),
                ("http_requests_waiting", "gauge", self.waiting),
            )
            lines = [f"# TYPE {name} {kind}\n{name} {value}" for name, kind, value in rows]
            summary = f"# TYPE http_request_seconds summary\nhttp_request_seconds_sum {self.seconds}"
            return "\n".join([*lines, summary, f"http_request_seconds_count {self.answered}", ""])


class Replica(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    counters: Counters

    def do_GET(self) -> None:
        """Answer a request, a health check or a scrape; the latter two never wait for a slot."""
        counters = self.counters
        if self.path == "/metrics":
            self._answer(200, counters.text())
        elif time.monotonic() < counters.ready_at:
            self._answer(503, "loading\n")
        elif self.path == "/healthz":
            self._answer(200, "ok\n")
        elif not counters.enter():
            self._answer(503, "queue full\n")
        else:
            started = time.monotonic()
            with counters.slots:
                time.sleep(counters.options.work_ms / 1000)
            counters.leave(time.monotonic() - started)
            self._answer(200, "done\n")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except BrokenPipeError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing per request."""


class Server(ThreadingHTTPServer):
    """Ends without waiting for idle connections."""

    daemon_threads = True
    request_queue_size = 128


def main() -> int:
    """Serve until SIGTERM; requests in flight are answered first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--work-ms", type=float, default=100.0)
    parser.add_argument("--queue", type=int, default=20)
    parser.add_argument("--start-s", type=float, default=2.0)
    Replica.counters = Counters(parser.parse_args())
    server = Server(("127.0.0.1", int(os.environ.get("PORT", "8000"))), Replica)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.2)
    until = time.monotonic() + 2.0
    while Replica.counters.waiting and time.monotonic() < until:
        time.sleep(0.02)
    return 0


if __name__ == "__main__":
    sys.exit(main())
