"""The token that slurmrestd or Slurm's own programs are shown: read from its file each time, so that a renewed one is used."""

from __future__ import annotations

from pathlib import Path

from aiops.backends.slurm.commands import Unsent
from aiops.clock import SystemClock
from aiops.token import claims


class NoToken(Unsent):
    """Nothing was sent: the token's file cannot be read, or what it holds has run out."""


def current(path: Path) -> str:
    """The token in `path`. Raises NoToken, with a line that says what to do."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise NoToken(f"token {path}: {getattr(error, 'strerror', None) or 'not a token'}") from None
    ends = claims(token).expires_at
    late_s = SystemClock().now() - ends if ends is not None else 0.0
    if late_s > 0:
        raise NoToken(f"token {path}: ran out {late_s:.0f} s ago; renew it (scontrol token username=... lifespan=...)")
    if not token or not token.isprintable():
        raise NoToken(f"token {path}: not a token")
    return token


def speaks_for(path: Path | None) -> str:
    """The user whose powers the token carries; empty where there is none, or it does not say."""
    try:
        return claims(current(path)).user if path is not None else ""
    except NoToken:
        return ""
