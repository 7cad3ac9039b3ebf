"""The safety limits, as one frozen value with defaults that are safe on a cluster one does not know yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

from aiops.errors import ConfigError
from aiops.settings import seconds

KINDS = ("service", "pool", "node", "hold", "link", "gpu", "job")  # of targets, as `action.target` names them
LONGEST_S = 86400.0  # the loop carries one day of history: a longer window or cooldown would end early


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What `admit` allows. Counts and ratios are per `window_s`; budgets allow at least one node, or nothing could ever move.

    Defaults: 10 % of nodes is Karpenter's budget, 20 % unhealthy its stop, 300 s HPA's down-stabilisation, 30 s for the
    proof of a checkpoint is invariant I9, 1 for oversubscription means none. `scopes` maps a policy to patterns of the
    targets that it may touch (`service/web*`); a policy that is not listed may touch everything, an empty list nothing.
    An idle node that its pool gives back stops nobody's work, so it spends none of those budgets; the picture that calls
    it idle may be wrong, though, so `nodes_ratio` of a pool go at once and `idle_nodes_ratio` of it per window.
    `oversubscription` maps a kind of link to how much more than its capacity may be promised.
    """

    window_s: float = 3600.0
    nodes_ratio: float = 0.1
    idle_nodes_ratio: float = 0.5
    jobs: int = 10
    gpus: int = 64
    tenants: int = 5
    tenant_jobs: int = 5
    policy_jobs: int = 10
    evictions_per_day: int = 4
    cooldown_s: float = 60.0
    destructive_cooldown_s: float = 300.0
    max_input_age_s: float = 60.0
    unhealthy_ratio: float = 0.2
    breaker_failures: int = 3
    approve_gpus: int = 32
    approvers: int = 2
    max_wall_step_s: float = 5.0
    proof_age_s: float = 30.0
    checkpoint_age_s: float = 3600.0
    attempts: int = 3
    hold_cap_s: float = 900.0
    protected: tuple[str, ...] = ()
    scopes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    oversubscription: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Limits:
        """Limits from plain data; ConfigError names the first key that is unknown, out of range or contradicts another."""
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {}
        for key, raw in section.items():
            if key not in known:
                raise ConfigError(where, f"limits.{key}", f"unknown key; expected one of: {', '.join(sorted(known))}")
            try:
                values[key] = _parsed(key, raw)
            except (TypeError, ValueError) as error:
                raise ConfigError(where, f"limits.{key}", f"expected {error}") from None
        limits = cls(**values)
        for key, bound, of in _ORDERED:
            low, high = getattr(limits, key), getattr(limits, of) if of else bound
            if low > high:
                raise ConfigError(where, f"limits.{key}", f"expected at most {of or 'one day'} ({high:g}), found {low:g}")
        return limits

    def covers(self, policy: str, name: str) -> bool:
        """Whether a policy may touch a target (`kind/name`) at all."""
        patterns = self.scopes.get(policy)
        return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


_ORDERED = (
    ("window_s", LONGEST_S, ""),
    ("destructive_cooldown_s", LONGEST_S, ""),
    ("cooldown_s", 0.0, "destructive_cooldown_s"),
    ("approve_gpus", 0.0, "gpus"),  # above the cap nothing would ever be asked of the approvers
    ("tenant_jobs", 0.0, "jobs"),
    ("policy_jobs", 0.0, "jobs"),
)


def _parsed(key: str, raw: Any) -> Any:
    if key == "protected":
        return _names(raw)
    if key in ("scopes", "oversubscription"):
        if not isinstance(raw, Mapping):
            raise ValueError("a mapping of names to values")
        return {name: _patterns(value) if key == "scopes" else _number("times", value) for name, value in raw.items()}
    return _number(key, raw)


def _names(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple) or not all(isinstance(name, str) and name for name in raw):
        raise ValueError("a list of names")
    return tuple(raw)


def _patterns(raw: Any) -> tuple[str, ...]:
    """Patterns of targets; one that no target could match is a mistake, and only `*` says everything."""
    patterns = _names(raw)
    for one in patterns:
        kind = one.partition("/")[0]
        if one != "*" and ("/" not in one or not any(fnmatchcase(known, kind) for known in KINDS)):
            raise ValueError(f"patterns like service/web*, of {', '.join(KINDS)}, or * for everything; found {one!r}")
    return patterns


def _number(key: str, raw: Any) -> float | int:
    whole = not key.endswith(("_s", "_ratio", "times"))
    if key.endswith("_s"):
        value = seconds(raw)
    elif isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError(f"a number, found {raw!r}")
    else:
        value = raw
    ratio = key.endswith("_ratio")
    if not 0 < value < 1e12 or (ratio and value > 1):
        raise ValueError(f"{'a ratio above 0 and up to 1' if ratio else 'a value above 0'}, found {raw!r}")
    if whole and value != int(value):
        raise ValueError(f"a whole number, found {raw!r}")
    return int(value) if whole else float(value)
