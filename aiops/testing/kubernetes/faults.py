"""What tests may break in the API server, and the writes that they find in its log.

Values only: when the server is to lie, refuse, lose a reply or be blind. server.py looks at them at every request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aiops.testing.kubernetes.status import Refused
from aiops.testing.kubernetes.store import Object


@dataclass(frozen=True, slots=True)
class Write:
    """One write that took effect."""

    verb: str
    path: str
    body: Object


@dataclass(slots=True)
class Faults:
    """What is broken at present; tests change it while the server runs."""

    blind: bool = False
    lies_about: Callable[[str, str], bool] = lambda verb, path: False
    """Answered as if done, and not done."""
    halves: Callable[[str, str], bool] = lambda verb, path: False
    """Metadata is written, the rest is not: what a webhook or a broken controller in between can do."""
    lose_reply_of: Callable[[str, str], bool] = lambda verb, path: False
    refuse: Callable[[str, str], Refused | None] = lambda verb, path: None
    undiscoverable: bool = False
    """Discovery is closed to this client (403), as where somebody took the role `system:discovery` away."""
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    """Pairs of verb and resource (`create`, `pods/eviction`) that answer 403."""
