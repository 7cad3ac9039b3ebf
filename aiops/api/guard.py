"""The gate in front of every route: host, headers, body size, authentication, and what browsers must not do.

A plain ASGI wrapper. It answers itself or hands on with `scope["state"]["caller"]`; a body is never read beyond its limit,
whatever its declared length.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiops.api.auth import LOCAL, Caller, Role, Token, identify, is_loopback
from aiops.api.problem import Problem
from aiops.clock import Clock
from aiops.settings import Listen

BODY_BYTES = 64 * 1024  # an order is well under 1 KiB
HEADER_BYTES = 16 * 1024
URL_BYTES = 8 * 1024
OPEN = ("/-/healthy", "/-/ready", "/", "/favicon.ico")
"""Answered without a token, as `/static/` is: liveness, and the dashboard's files, which hold no data."""
SAFE = ("GET", "HEAD", "OPTIONS")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Guard:
    """ASGI wrapper around `app`; without `tokens` the interface is loopback-only and callers are LOCAL."""

    app: ASGIApp
    listen: Listen
    tokens: tuple[Token, ...]
    clock: Clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then hand on; `lifespan` passes through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        hardened = _hardened(scope["path"], send)
        try:
            self._admit(scope)
            await self.app(scope, _bounded(receive), hardened)
        except Problem as problem:
            await problem.response()(scope, receive, hardened)

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            raise Problem(431, "headers_too_large", f"headers: expected at most {HEADER_BYTES} bytes")
        if len(scope.get("raw_path") or b"") + len(scope.get("query_string", b"")) > URL_BYTES:
            raise Problem(414, "url_too_long", f"address: expected at most {URL_BYTES} bytes")
        if not self.tokens and not _local_host(headers.get("host", ""), self.listen.host):
            raise Problem(403, "wrong_host", "Host: expected localhost or the configured address (DNS rebinding is refused)")
        if not _declared_length(headers) <= BODY_BYTES:
            raise _too_large()
        scope.setdefault("state", {})["caller"] = self._caller(scope, headers)

    def _caller(self, scope: Scope, headers: Headers) -> Caller | None:
        caller = identify(self.tokens, headers.get("authorization", ""), self.clock.now()) if self.tokens else LOCAL
        reading = scope["method"] in SAFE
        if caller is None:
            if reading and (scope["path"] in OPEN or scope["path"].startswith("/static/")):
                return None
            raise Problem(401, "unauthenticated", "Authorization: expected a valid bearer token")
        if not reading:
            _check_write(headers, caller.role, bool(self.tokens))
        return caller


def _check_write(headers: Headers, role: Role, by_token: bool) -> None:
    """A write needs a role, and proof that a page of another origin did not send it."""
    if role < Role.OPERATOR:
        raise Problem(403, "forbidden", "this token may read only; an operator's is needed")
    if not by_token and headers.get("x-aiops-request") is None:
        raise Problem(403, "missing_header", "X-Aiops-Request: expected on every write without a token (CSRF is refused)")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Problem(403, "cross_site", "writes from another site's page are refused")


def _local_host(host: str, configured: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    return is_loopback(name) or (bool(name) and name.strip("[]").lower() == configured.lower())


def _declared_length(headers: Headers) -> int:
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Problem(400, "invalid_input", "Content-Length: expected a number of bytes")
    return int(text)


def _too_large() -> Problem:
    return Problem(413, "body_too_large", f"body: expected at most {BODY_BYTES} bytes")


def _bounded(receive: Receive) -> Receive:
    """`receive` that stops a chunked body at the limit."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b"")) if message["type"] == "http.request" else 0
        if seen > BODY_BYTES:
            raise _too_large()
        return message

    return bounded


def _hardened(path: str, send: Send) -> Send:
    """`send` that adds the security headers; data is never cached, files are revalidated."""

    async def hardened(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-cache" if path.startswith("/static/") else "no-store")
        await send(message)

    return hardened
