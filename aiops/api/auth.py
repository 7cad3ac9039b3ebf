"""Who may call: bearer tokens, held as hashes, compared in constant time; three roles, denied by default.

The token file has one `name:role:sha256` per line (`printf %s TOKEN | sha256sum`), optionally `:YYYY-MM-DD`, the last day
on which the token is good (UTC). Viewers read; operators may stop things; only admins may let the autopilot do more.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from hashlib import sha256
from pathlib import Path

from aiops.errors import ConfigError
from aiops.settings import Settings


class Role(IntEnum):
    """Ordered authority: a role may do whatever the ones below it may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, for the audit trail, and with what authority."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Token:
    """One line of the token file; `expires_at` is exclusive, None where the token does not expire."""

    caller: Caller
    digest: bytes
    expires_at: float | None = None


LOCAL = Caller("local", Role.ADMIN)
"""Whoever reaches a loopback-only interface without a token file: already a user of this machine."""


def load_tokens(path: Path) -> tuple[Token, ...]:
    """Tokens of a file; ConfigError names the line and what was expected. An empty file would lock everybody out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(str(path), "listen.token_file", f"expected a readable token file: {why}") from None
    kept = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    if not kept:
        raise ConfigError(str(path), "", "expected at least one line name:role:sha256")
    return tuple(_token(path, number, line) for number, line in kept)


def _token(path: Path, number: int, line: str) -> Token:
    match = re.fullmatch(r"([\w.@-]{1,64}):(viewer|operator|admin):([0-9a-fA-F]{64})(?::(\d{4}-\d\d-\d\d))?", line)
    if match is None:
        raise ConfigError(f"{path}:{number}", "", "expected name:role:sha256 with role viewer, operator or admin")
    name, role, digest, last_day = match.groups()
    try:
        expires = datetime.fromisoformat(last_day).replace(tzinfo=UTC).timestamp() + 86400.0 if last_day else None
    except ValueError:
        raise ConfigError(f"{path}:{number}", "", f"expected a date YYYY-MM-DD, found {last_day!r}") from None
    return Token(Caller(name, Role[role.upper()]), bytes.fromhex(digest), expires)


def identify(tokens: tuple[Token, ...], authorization: str, now: float) -> Caller | None:
    """The caller that an Authorization header proves, or None. Looks at every token, so that time tells nothing."""
    scheme, _, secret = authorization.partition(" ")
    given = sha256(secret.strip().encode("utf-8", "replace")).digest()
    found: Caller | None = None
    for token in tokens:
        same = hmac.compare_digest(token.digest, given)
        if same and (token.expires_at is None or now < token.expires_at):
            found = token.caller
    return found if scheme.lower() == "bearer" else None


def check_bind(settings: Settings, where: str = "configuration") -> None:
    """Refuse to listen beyond this machine without authentication, or with a token file that is wrong: ConfigError."""
    if settings.listen.token_file is not None:
        load_tokens(settings.listen.token_file)
    elif not is_loopback(settings.listen.host):
        raise ConfigError(where, "listen.token_file", f"a token file, because {settings.listen.host} is not loopback")


def is_loopback(host: str) -> bool:
    """True where `host` names this machine only. A name other than localhost may resolve to anything: False."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
