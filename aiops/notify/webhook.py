"""A receiver of alerts by HTTP POST, signed as Standard Webhooks.

Signature: `webhook-signature: v1,BASE64(HMAC-SHA256(key, "id.timestamp.body"))`, one per key, so that keys can be rotated: put
the new one first, the old one below, and drop it when the receiver knows the new one. The URL comes from the configuration
file, so it is the operator's word and may be a loopback or private address; redirects are not followed, for they are not.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from hmac import new as hmac
from pathlib import Path
from threading import Timer
from typing import Any, ClassVar

import httpx
from pydantic import Field, HttpUrl, ValidationError

from aiops.clock import Clock, SystemClock
from aiops.errors import ConfigError, Permanent, Temporary
from aiops.notify.backoff import Busy
from aiops.ports import Message
from aiops.settings import Seconds, Section, invalid

_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)  # what Standard Webhooks asks of a key


class WebhookSettings(Section):
    """`url`, the file with the signing keys (one `whsec_...` per line, newest first), and how long one attempt may take."""

    url: HttpUrl
    secret_file: Path | None = None
    timeout: Seconds = Field(default=10.0, le=60)


class WebhookNotifier:
    """Posts a message's body verbatim; 2xx is delivered, 429, 5xx and silence are tried again, anything else is final."""

    name: ClassVar[str] = "webhook"

    def __init__(self, url: str, keys: tuple[bytes, ...] = (), timeout_s: float = 10.0, clock: Clock | None = None) -> None:
        self._url, self._keys, self._timeout_s = url, keys, timeout_s
        self._clock = clock or SystemClock()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> WebhookNotifier:
        """Build from the configuration; ConfigError names the key that is wrong."""
        try:
            settings = WebhookSettings(**section)
        except ValidationError as error:
            raise invalid(error, where, "webhook") from None
        if settings.url.username or settings.url.password:
            raise ConfigError(where, "webhook.url", "expected a URL without a password: sign with secret_file instead")
        keys = read_keys(settings.secret_file, where) if settings.secret_file else ()
        return cls(str(settings.url), keys, settings.timeout)

    def send(self, message: Message) -> None:
        """Deliver once. See `Notifier.send`."""
        headers = {"content-type": "application/json", "user-agent": "aiops"} | self._signed(message)
        try:
            # No environment proxies and no redirects: the message goes where the configuration says, or nowhere.
            with (
                httpx.Client(timeout=self._timeout_s, follow_redirects=False, trust_env=False) as client,
                self._bounded(client),
            ):
                request = client.build_request("POST", self._url, content=message.body, headers=headers)
                response = client.send(request, stream=True)  # nobody reads the body: it may be endless
                response.close()
        except (httpx.HTTPError, OSError, RuntimeError) as error:
            raise Temporary(f"no answer: {type(error).__name__}: {error}") from None
        judge(response)

    def _signed(self, message: Message) -> dict[str, str]:
        stamp = str(int(self._clock.now()))
        headers = {"webhook-id": message.id, "webhook-timestamp": stamp}
        if self._keys:
            headers["webhook-signature"] = " ".join(sign(key, message.id, stamp, message.body) for key in self._keys)
        return headers

    @contextmanager
    def _bounded(self, client: httpx.Client) -> Iterator[None]:
        """A deadline for the whole attempt: httpx bounds each read only, and a receiver may drip one byte per second."""
        timer = Timer(2 * self._timeout_s, client.close)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def sign(key: bytes, id: str, timestamp: str, body: bytes) -> str:
    """One Standard Webhooks signature, `v1,...`."""
    return "v1," + b64encode(hmac(key, f"{id}.{timestamp}.".encode() + body, sha256).digest()).decode()


def judge(response: httpx.Response) -> None:
    """Nothing for 2xx; Busy, Temporary or Permanent for the rest, by the status alone."""
    status = response.status_code
    if 200 <= status < 300:
        return
    if status in (408, 425, 429) or status >= 500:
        raise Busy(f"answered {status}", _asked_s(response.headers.get("retry-after", "")))
    raise Permanent(f"answered {status}" + (", a redirect, which is not followed" if 300 <= status < 400 else ""))


def _asked_s(retry_after: str) -> float:
    """Seconds of a Retry-After header; its date form is rare and counts as no wish."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0


def read_keys(path: Path, where: str) -> tuple[bytes, ...]:
    """Signing keys of a file, one `whsec_` and base64 per line; ConfigError for anything else. Never shows a key."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(where, "webhook.secret_file", f"expected a readable file at {path}: {error}") from None
    keys = tuple(_key(line) for line in lines)
    if not keys or any(len(key) not in _KEY_BYTES for key in keys):
        raise ConfigError(where, "webhook.secret_file", f"expected lines of {_PREFIX} and 24 to 64 bytes in base64 in {path}")
    return keys


def _key(line: str) -> bytes:
    try:
        return b64decode(line.removeprefix(_PREFIX), validate=True) if line.startswith(_PREFIX) else b""
    except binascii.Error:
        return b""
