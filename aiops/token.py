"""What a JSON Web Token says of itself: whom it speaks for, and until when. Pure.

Nothing is verified here: that is the business of the server that is shown the token. What is read serves to say plainly that a
token has run out, or will, before a server answers with nothing but a refusal.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass

_MOST = 16_384  # characters; what is longer is no token


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Unix seconds; None, or an empty user, where the token does not say."""

    expires_at: float | None = None
    issued_at: float | None = None
    user: str = ""


def claims(token: str) -> Claims:
    """The claims of `token`; empty ones where it is no readable token. Slurm writes the user as `sun`, others as `sub`."""
    try:
        middle = token.strip().split(".")[1] if len(token) <= _MOST else ""
        found = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (IndexError, binascii.Error, ValueError, RecursionError):
        return Claims()
    if not isinstance(found, dict):
        return Claims()
    user = found.get("sun") or found.get("sub")
    return Claims(
        expires_at=_time(found.get("exp")), issued_at=_time(found.get("iat")), user=user if isinstance(user, str) else ""
    )


def _time(value: object) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known and isinstance(value, int | float) else None
