"""How long to wait before a message is tried again. Pure and deterministic: the jitter comes from the message's id."""

from __future__ import annotations

from hashlib import sha256

from aiops.errors import Temporary

FIRST_S = 1.0
LONGEST_S = 300.0  # Alertmanager's default group_interval, at which it gives a notification up; we go on
LONGEST_ASKED_S = 3600.0  # of a receiver's Retry-After: a broken one must not silence us for a week


class Busy(Temporary):
    """The receiver asks for `after_s` seconds of peace."""

    def __init__(self, text: str, after_s: float) -> None:
        super().__init__(text)
        self.after_s = after_s


def pause_s(id: str, attempts: int, asked_s: float = 0.0) -> float:
    """Seconds until the next attempt after `attempts` failed ones: doubling, capped, half of it jitter; at least `asked_s`."""
    whole = min(LONGEST_S, FIRST_S * 2.0 ** min(attempts - 1, 30))
    jitter = int.from_bytes(sha256(f"{id}:{attempts}".encode()).digest()[:4], "big") / 2**32
    return max(whole * (0.5 + 0.5 * jitter), min(asked_s, LONGEST_ASKED_S))
