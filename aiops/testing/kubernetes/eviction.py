"""The eviction subresource, and the arithmetic of disruption budgets that it obeys.

As in kubernetes/pkg/registry/core/pod/storage/eviction.go: a pod that is finished, or not yet scheduled, may always go; more
than one budget is a 500; a budget that allows nothing is a 429 with the cause DisruptionBudget; an allowed eviction takes one
off `disruptionsAllowed` before the pod is deleted.
"""

from __future__ import annotations

import math
from typing import Any

from aiops.testing.kubernetes.resources import TABLE
from aiops.testing.kubernetes.selection import by_object
from aiops.testing.kubernetes.status import Refused, conflict
from aiops.testing.kubernetes.store import Object, Store

PODS = next(row for row in TABLE if row.plural == "pods")
BUDGETS = next(row for row in TABLE if row.plural == "poddisruptionbudgets")


def evict(store: Store, pod: Object, body: Object, dry_run: bool) -> Object:
    """Delete the pod if its uid is the wanted one and its budget allows it; the `Status` of success."""
    options = body.get("deleteOptions") or {}
    if body.get("apiVersion", "policy/v1") not in ("policy/v1", "policy/v1beta1"):
        raise Refused(400, "BadRequest", f"no kind Eviction is registered for version {body['apiVersion']}")
    dry_run = dry_run or options.get("dryRun") == ["All"]
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    wanted = (options.get("preconditions") or {}).get("uid", pod["metadata"]["uid"])
    with store.changed:
        current = store.get(PODS, namespace, name)
        if current["metadata"]["uid"] != wanted:
            why = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {current['metadata']['uid']}"
            raise conflict("pods", name, why)
        finished = current.get("status", {}).get("phase") in ("Succeeded", "Failed", "Pending")
        budgets = [] if finished else _budgets(store, current)
        if len(budgets) > 1:
            why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise Refused(500, "InternalError", why)
        for budget in budgets:
            _take(store, budget, dry_run)
        if not dry_run:
            store.evicted.add(current["metadata"]["uid"])
        store.delete(PODS, namespace, name, dry_run)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _budgets(store: Store, pod: Object) -> list[Object]:
    labels, namespace = pod["metadata"].get("labels", {}), pod["metadata"]["namespace"]
    return [row for row in store.all(BUDGETS, namespace) if by_object(row["spec"].get("selector"), labels)]


def _take(store: Store, budget: Object, dry_run: bool) -> None:
    status, name = budget.get("status", {}), budget["metadata"]["name"]
    if status.get("disruptionsAllowed", 0) <= 0:
        need = f"The disruption budget {name} needs {status.get('desiredHealthy', 0)} healthy pods and has "
        why = need + f"{status.get('currentHealthy', 0)} currently"
        cause = [("DisruptionBudget", why)]
        raise Refused(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", cause)
    new = store.get(BUDGETS, budget["metadata"]["namespace"], name)
    new["status"]["disruptionsAllowed"] -= 1
    store.replace(BUDGETS, new, budget, dry_run)


def arithmetic(spec: dict[str, Any], expected: int, healthy: int) -> dict[str, int]:
    """The status of a budget over `expected` pods of which `healthy` are ready; percentages round up (disruption.go)."""
    if "maxUnavailable" in spec:
        desired = max(0, expected - _scaled(spec["maxUnavailable"], expected))
    else:
        desired = _scaled(spec.get("minAvailable", 1), expected)
    allowed = max(0, healthy - desired) if expected else 0
    return {
        "expectedPods": expected,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": allowed,
    }


def _scaled(value: int | str, total: int) -> int:
    return math.ceil(float(value.rstrip("%")) / 100 * total) if isinstance(value, str) else value
