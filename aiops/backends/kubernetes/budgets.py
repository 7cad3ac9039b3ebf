"""Whether disruption budgets let all pods of a run go: asked before the first eviction, so that no run is half stopped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiops.action import Outcome
from aiops.backends.kubernetes.desk import Answer, Desk
from aiops.backends.kubernetes.kinds import BUDGETS
from aiops.backends.kubernetes.records import PodRecord


def refusal(desk: Desk, namespace: str, pods: Iterable[PodRecord]) -> Answer | None:
    """FAILED, to be tried in a later cycle, where a budget allows fewer disruptions than it covers of these pods."""
    rows = tuple(pods)
    for budget in desk.connection.get(BUDGETS.path(namespace))["items"]:
        covered = sum(matches(budget["spec"].get("selector"), pod.meta.labels) for pod in rows)
        allowed = int((budget.get("status") or {}).get("disruptionsAllowed", 0))
        if covered > allowed:
            name = budget["metadata"]["name"]
            return Outcome.FAILED, f"must wait: disruption budget {namespace}/{name} allows {allowed} of {covered} evictions"
    return None


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether labels match a LabelSelector; an absent selector matches nothing, an empty one everything (policy/v1)."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(row, labels) for row in selector.get("matchExpressions") or ())


def _holds(row: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, wanted = labels.get(row["key"]), row.get("values") or ()
    match row["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            raise ValueError(f"selector operator {row['operator']!r}")
