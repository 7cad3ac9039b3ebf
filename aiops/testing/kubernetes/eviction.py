"""The eviction subresource, and the arithmetic of disruption budgets that it obeys.

As in kubernetes/pkg/registry/core/pod/storage/eviction.go: a pod that is finished, or not yet running, may always go, and one
that is not ready while as many others are healthy as the budget wants; more than one budget is a 500; a budget that allows
nothing, or that its controller has not looked at yet, is a 429 with the cause DisruptionBudget; an allowed eviction takes
one off `disruptionsAllowed` before the pod is deleted, and the wanted uid is looked at by that deletion only.
"""

from __future__ import annotations

import math
from typing import Any

from aiops.testing.kubernetes.resources import TABLE
from aiops.testing.kubernetes.selection import by_object
from aiops.testing.kubernetes.status import Refused, conflict
from aiops.testing.kubernetes.store import Object, Store

PODS = next(row for row in TABLE if row.plural == "pods")
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
BUDGETS = next(row for row in TABLE if row.plural == "poddisruptionbudgets")


def evict(store: Store, pod: Object, body: Object, dry_run: bool) -> Object:
    """Delete the pod if its uid is the wanted one and its budget allows it; the `Status` of success."""
    options = body.get("deleteOptions") or {}
    if body.get("apiVersion", "policy/v1") not in ("policy/v1", "policy/v1beta1"):
        raise Refused(400, "BadRequest", f"no kind Eviction is registered for version {body['apiVersion']}")
    dry_run = dry_run or options.get("dryRun") == ["All"]
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    if (body.get("metadata") or {}).get("name", name) != name:
        raise Refused(400, "BadRequest", "name in URL does not match name in Eviction object")
    wanted = (options.get("preconditions") or {}).get("uid", pod["metadata"]["uid"])
    with store.changed:
        current = store.get(PODS, namespace, name)
        finished = current.get("status", {}).get("phase") in ("Succeeded", "Failed", "Pending")
        budgets = [] if finished else _budgets(store, current)
        if len(budgets) > 1:
            why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise Refused(500, "", why)
        for budget in budgets:
            if ready(current) or not _enough_others(budget):
                _take(store, budget, dry_run)
        if current["metadata"]["uid"] != wanted:
            why = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {current['metadata']['uid']}"
            raise conflict("pods", name, why)
        if not dry_run:
            store.evicted.add(current["metadata"]["uid"])
        store.delete(PODS, namespace, name, dry_run)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _budgets(store: Store, pod: Object) -> list[Object]:
    labels, namespace = pod["metadata"].get("labels", {}), pod["metadata"]["namespace"]
    return [row for row in store.all(BUDGETS, namespace) if by_object(row["spec"].get("selector"), labels)]


def ready(pod: Object) -> bool:
    """Whether the pod says that it is ready."""
    rows = pod.get("status", {}).get("conditions", [])
    return any(row["type"] == "Ready" and row["status"] == "True" for row in rows)


def _enough_others(budget: Object) -> bool:
    status = budget.get("status", {})
    return bool(status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0)


def _take(store: Store, budget: Object, dry_run: bool) -> None:
    status, name = budget.get("status", {}), budget["metadata"]["name"]
    if status.get("observedGeneration", 0) < budget["metadata"]["generation"]:
        why = f"The disruption budget {name} is still being processed by the server."
        young = Refused(429, "TooManyRequests", _REFUSED, [("DisruptionBudget", why)])
        young.retry_after_s = 10
        raise young
    if status.get("disruptionsAllowed", 0) <= 0:
        need = f"The disruption budget {name} needs {status.get('desiredHealthy', 0)} healthy pods and has "
        why = need + f"{status.get('currentHealthy', 0)} currently"
        cause = [("DisruptionBudget", why)]
        raise Refused(429, "TooManyRequests", _REFUSED, cause)
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
