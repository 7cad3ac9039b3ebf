"""One effect per Idempotency-Key: the same key and body get the first answer again, another body is refused (422).

Kept in the store, so that a retry after a restart is still a repeat. Keys belong to their caller and are kept for a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from aiops import codec
from aiops.api.problem import Problem
from aiops.ports import Store

STATE = "api.idempotency"
KEPT_S = 86400.0
MOST = 256  # orders are rare; the oldest leave first


@dataclass(frozen=True, slots=True)
class Request:
    """What identifies a repeat. `key` None: never a repeat."""

    caller: str
    key: str | None
    body: bytes

    def order_id(self, now: float) -> str:
        """Order id: derived from the key, so that even a crash between audit and answer makes no second order."""
        seed = f"{self.caller}\n{self.key}" if self.key else f"{self.caller}\n{now!r}\n{self.body!r}"
        return f"order-{sha256(seed.encode()).hexdigest()[:20]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer that was given."""

    id: str
    digest: str
    at: float
    body: str


def earlier(store: Store, request: Request, now: float) -> bytes | None:
    """The answer given to this very request before, None if it is new; 422 if the key came with another body."""
    if request.key is None:
        return None
    for given in _kept(store, now):
        if given.id == request.order_id(now):
            if given.digest != _digest(request):
                raise Problem(422, "idempotency_key_reused", "Idempotency-Key: was used with another body; use a new key")
            return given.body.encode()
    return None


def keep(store: Store, request: Request, body: bytes, now: float) -> None:
    """Remember an answer."""
    if request.key is not None:
        new = Answered(id=request.order_id(now), digest=_digest(request), at=now, body=body.decode())
        store.put_state(STATE, codec.encode((*_kept(store, now), new)[-MOST:]))


def _kept(store: Store, now: float) -> tuple[Answered, ...]:
    raw = store.state(STATE)
    known: tuple[Answered, ...] = codec.decode(tuple[Answered, ...], raw) if raw else ()
    return tuple(given for given in known if now - given.at < KEPT_S)


def _digest(request: Request) -> str:
    return sha256(request.body).hexdigest()
