"""A TCP proxy that can stop forwarding: a network partition between one daemon and one of its servers.

Nothing is closed or refused while it is cut: connections stay open and new ones are accepted, and no byte gets through, as
behind a router that drops packets. When it heals, what was sent meanwhile arrives late, as TCP would deliver it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_WRITE = re.compile(rb"^(PATCH|POST|PUT|DELETE) (\S+) HTTP/1\.1\r\n", re.M)


@dataclass(frozen=True)
class Passed:
    """A request that changes something, as it got through in the clear."""

    at: float
    method: str
    path: str


class Proxy:
    """Listens on loopback and forwards to a TCP port or a Unix socket; `with` bounds its life."""

    def __init__(self, to: int | Path) -> None:
        self._to = to
        self._open = threading.Event()
        self._open.set()
        self._ended = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.passed: list[Passed] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> float:
        """Let nothing through from now on, either way; the monotonic time."""
        self._open.clear()
        return time.monotonic()

    def heal(self) -> None:
        """Let everything through again, what waited first."""
        self._open.set()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended = True
        self._open.set()
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = self._connected() if self._kept(client) and self._open.wait() else None
        if server is None or not self._kept(server):
            client.close()
            return
        back = threading.Thread(target=self._pump, args=(server, client, False), daemon=True)
        back.start()
        self._pump(client, server, True)
        back.join()
        client.close()
        server.close()

    def _kept(self, one: socket.socket) -> bool:
        """Whether it will be closed at the end; where that has come already, it is closed now."""
        with self._lock:
            if self._ended:
                one.close()
            else:
                self._sockets.append(one)
            return not self._ended

    def _connected(self) -> socket.socket | None:
        family, to = (socket.AF_INET, ("127.0.0.1", self._to)) if isinstance(self._to, int) else (socket.AF_UNIX, str(self._to))
        one = socket.socket(family)
        try:
            one.connect(to)
        except OSError:
            one.close()
            return None
        return one

    def _pump(self, source: socket.socket, sink: socket.socket, noted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._open.wait()
                if noted:
                    rows = (Passed(time.monotonic(), m[1].decode(), m[2].decode()) for m in _WRITE.finditer(data))
                    self.passed.extend(rows)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
