"""The HTTP side: authentication, permissions, injected faults, JSON in and out, and watches as chunked streams.

Tests use `store` to prepare the cluster and to look at it, `log` to see every write that took effect, and the `faults` to
break it: a lost reply, an error instead of an answer, blindness.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import orjson

from aiops.clock import SystemClock
from aiops.testing.kubernetes import verbs
from aiops.testing.kubernetes.controllers import Controllers
from aiops.testing.kubernetes.discovery import discovery
from aiops.testing.kubernetes.faults import Faults, Write
from aiops.testing.kubernetes.patch import merge
from aiops.testing.kubernetes.resources import TABLE, Resource, Target, target
from aiops.testing.kubernetes.selection import as_selected
from aiops.testing.kubernetes.status import Refused, malformed, not_found
from aiops.testing.kubernetes.store import Object, Store

_NAMESPACES = ("default", "kube-system", "aiops")
_METHODS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class ApiServer:
    """An API server on loopback; `with ApiServer(...) as server` bounds its life."""

    token = "in-process"  # noqa: S105 - not a secret: it opens nothing but this test server

    def __init__(self, table: tuple[Resource, ...] = TABLE, controllers: bool = True, window: int = 20_000) -> None:
        """Without `controllers` objects stay as they are written; `window` events are remembered for watches."""
        self.store = Store(lambda: datetime.fromtimestamp(SystemClock().now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), window)
        self.table, self.faults = table, Faults()
        for name in _NAMESPACES:
            self.store.create(self.resource("namespaces"), "", {"metadata": {"name": name}})
        self.log: deque[Write] = deque()
        self.requests: deque[str] = deque(maxlen=100_000)
        self.controllers = Controllers(self.store)
        if controllers:
            self.store.on_write = self.controllers.settle
        handler = type("Handler", (_Handler,), {"api": self})
        self._http = _Listener(("127.0.0.1", 0), handler)
        self.closing = False
        self.anonymous = False  # kubectl sends no token without TLS
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> ApiServer:
        """Start to serve."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, ending all watches; a second time does nothing."""
        if not self._thread.is_alive():
            return
        self.drop_watches()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig for it; the path."""
        cluster = {"name": "c", "cluster": {"server": self.url}}
        user = {"name": "u", "user": {"token": self.token}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        body = {"apiVersion": "v1", "kind": "Config", "current-context": "x", "clusters": [cluster], "users": [user]}
        path.write_bytes(orjson.dumps({**body, "contexts": [context]}))
        return path

    def resource(self, plural: str) -> Resource:
        """A resource by its plural name."""
        return next(row for row in self.table if row.plural == plural)

    def create(self, plural: str, body: Object, namespace: str = "default") -> Object:
        """Put an object into the cluster, as somebody else would."""
        resource = self.resource(plural)
        if resource.namespaced and not self.has(namespace):
            self.store.create(self.resource("namespaces"), "", {"metadata": {"name": namespace}})
        return self.store.create(resource, namespace if resource.namespaced else "", body)

    def has(self, namespace: str) -> bool:
        """Whether there is such a namespace."""
        return any(row["metadata"]["name"] == namespace for row in self.store.all(self.resource("namespaces")))

    def change(self, plural: str, name: str, patch: Object, namespace: str = "default") -> Object:
        """Merge-patch an object, status included, as somebody else would."""
        resource = self.resource(plural)
        with self.store.changed:
            old = self.store.get(resource, namespace if resource.namespaced else "", name)
            return self.store.replace(resource, merge(old, patch), old)

    def delete(self, plural: str, name: str, namespace: str = "default") -> Object:
        """Delete an object, as somebody else would."""
        resource = self.resource(plural)
        return self.store.delete(resource, namespace if resource.namespaced else "", name)

    def drop_watches(self) -> None:
        """End every open watch; clients must resume."""
        with self.store.changed:
            self.closing = True
            self.store.changed.notify_all()
        time.sleep(0.02)
        self.closing = False


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a client opens a dozen watches at once; with the default of 5 some would wait a second


class _Handler(BaseHTTPRequestHandler):
    api: ClassVar[ApiServer]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: with Nagle each answer would cost 40 ms

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._answer(parts.path, query, _body(raw))
        except Refused as refused:
            self._send(refused.code, refused.body(), refused.retry_after_s)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names that http.server calls

    def _answer(self, path: str, query: dict[str, str], body: Object) -> None:
        api = self.api
        if not api.anonymous and self.headers.get("Authorization") != f"Bearer {api.token}":
            raise Refused(401, "Unauthorized", "Unauthorized")
        known = discovery(path, api.table)
        if known is not None and api.faults.undiscoverable:
            raise Refused(403, "Forbidden", f'User "aiops" cannot get path "{path}"')
        if known is not None:
            return self._send(200, known)
        found = target(path, api.table)
        verb = _METHODS[self.command]
        if verb == "get" and not found.name:
            verb = "watch" if query.get("watch") in ("1", "true") else "list"
        api.requests.append(f"{verb} {path}")
        self._permitted(verb, path, found)
        if verb == "watch":
            return self._watch(found, query)
        if api.faults.lies_about(verb, path):
            query = {**query, "dryRun": "All"}
        if api.faults.halves(verb, path):
            body = {"metadata": body.get("metadata", {})}
        before = api.store.version
        answer = self._do(verb, found, query, body)
        if api.store.version != before and verb not in ("get", "list"):
            api.log.append(Write(verb, path, body))
        if api.faults.lose_reply_of(verb, path):
            self.close_connection = True
            self.connection.close()
            return None
        return self._send(201 if verb == "create" else 200, answer)

    def _permitted(self, verb: str, path: str, found: Target) -> None:
        faults = self.api.faults
        if faults.blind:
            raise Refused(503, "ServiceUnavailable", "apiserver is shutting down")
        refused = faults.refuse(verb, path)
        if refused is not None:
            raise refused
        what = found.resource.plural + (f"/{found.subresource}" if found.subresource else "")
        if (verb, what) in faults.forbidden:
            who = 'User "aiops"'
            why = f'{found.resource.qualified} is forbidden: {who} cannot {verb} resource "{what}" in API group '
            raise Refused(403, "Forbidden", why + f'"{found.resource.group}"')

    def _do(self, verb: str, found: Target, query: dict[str, str], body: Object) -> Object:
        store = self.api.store
        self.api.controllers.pass_time()
        match verb:
            case "list":
                return verbs.listing(store, found, query)
            case "get":
                return verbs.read(store, found)
            case "create":
                if found.resource.namespaced and not self.api.has(found.namespace):
                    raise not_found("namespaces", found.namespace)
                return verbs.create(store, found, body, query)
            case "update":
                return verbs.replace(store, found, body, query)
            case "patch":
                kind = self.headers.get("Content-Type", "").partition(";")[0]
                return verbs.patch(store, found, body, query, kind)
            case _:
                return verbs.delete(store, found, body, query)

    def _watch(self, found: Target, query: dict[str, str]) -> None:
        """A stream of events until the time-out, the end of the server, or an ERROR event with 410."""
        api, seen = self.api, int(query.get("resourceVersion") or 0) or self.api.store.version
        until = SystemClock().elapsed() + float(query.get("timeoutSeconds") or 300)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            verbs.check_version(api.store, found.resource, seen)
            while not api.closing and not api.faults.blind and SystemClock().elapsed() < until:
                seen = self._events(found, query, seen, until)
            if query.get("allowWatchBookmarks") in ("1", "true"):
                meta = {"resourceVersion": str(seen), "creationTimestamp": None}
                mark = {"kind": found.resource.kind, "apiVersion": found.resource.api_version, "metadata": meta}
                self._chunk({"type": "BOOKMARK", "object": mark})
        except Refused as refused:
            self._chunk({"type": "ERROR", "object": refused.body()})
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def _events(self, found: Target, query: dict[str, str], seen: int, until: float) -> int:
        """Send what is new, or wait for it; the version up to which the client now knows everything."""
        store = self.api.store
        with store.changed:
            rows = store.since(found.resource, seen)
            if not rows:
                upto = store.version
                store.changed.wait(max(0.0, min(until - SystemClock().elapsed(), 1.0)))
                return upto
        for version, kind, row, before in rows:
            elsewhere = found.namespace and row["metadata"].get("namespace") != found.namespace
            told = "" if elsewhere else as_selected(kind, row, before, query)
            if told:
                self._chunk({"type": told, "object": row})
            seen = version
        return seen

    def _chunk(self, event: Object) -> None:
        data = orjson.dumps(event) + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _send(self, code: int, body: Any, retry_after_s: int | None = None) -> None:
        data = orjson.dumps(body)
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after_s is not None:
            self.send_header("Retry-After", str(retry_after_s))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Tests look at `requests` and `log` instead."""


def _body(raw: bytes) -> Object:
    try:
        found = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError as error:
        raise malformed(f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise malformed("the body is no object")
    return found
