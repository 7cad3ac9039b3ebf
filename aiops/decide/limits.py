"""The safety limits, as one frozen value with defaults that are safe on a cluster one does not know yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from aiops.errors import ConfigError
from aiops.settings import seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What `admit` allows. Counts and ratios are per `window_s`; budgets allow at least one node, or nothing could ever move.

    Defaults: 10 % of nodes is Karpenter's budget, 20 % unhealthy its stop, 300 s HPA's down-stabilisation.
    """

    window_s: float = 3600.0
    nodes_ratio: float = 0.1
    jobs: int = 10
    gpus: int = 64
    tenants: int = 5
    cooldown_s: float = 60.0
    destructive_cooldown_s: float = 300.0
    max_input_age_s: float = 60.0
    unhealthy_ratio: float = 0.2
    breaker_failures: int = 3
    approve_gpus: int = 64
    approvers: int = 2
    max_wall_step_s: float = 5.0
    proof_age_s: float = 30.0
    checkpoint_age_s: float = 3600.0
    attempts: int = 3
    protected: tuple[str, ...] = ()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Limits:
        """Limits from plain data; ConfigError names the first key that is unknown or out of range."""
        known = {field.name: field for field in fields(cls)}
        values: dict[str, Any] = {}
        for key, raw in section.items():
            if key not in known:
                raise ConfigError(where, f"limits.{key}", f"unknown key; expected one of: {', '.join(known)}")
            try:
                values[key] = _parsed(key, raw)
            except (TypeError, ValueError) as error:
                raise ConfigError(where, f"limits.{key}", f"expected {error}") from None
        return cls(**values)


def _parsed(key: str, raw: Any) -> Any:
    if key == "protected":
        if not isinstance(raw, list | tuple) or not all(isinstance(name, str) and name for name in raw):
            raise ValueError("a list of names")
        return tuple(raw)
    if key.endswith("_s"):
        value = seconds(raw)
    elif isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError("a number")
    else:
        value = raw
    if not 0 < value < 1e12 or (key.endswith("_ratio") and value > 1):
        raise ValueError("a ratio above 0 and up to 1" if key.endswith("_ratio") else "a value above 0")
    return value if key.endswith(("_s", "_ratio")) else int(value)
