"""The scheduler: pods of the highest priority first, each to a node that takes it; preemption of lower ones where none does.

It counts GPUs, and honours cordons, readiness, node selectors, required and preferred node affinity. As in kube-scheduler
a pod with `preemptionPolicy: Never` waits its turn, and victims are deleted outright where no budget covers them.
"""

from __future__ import annotations

import copy
from typing import Any

from aiops.testing.kubernetes.eviction import PODS
from aiops.testing.kubernetes.resources import TABLE
from aiops.testing.kubernetes.store import Object, Store

NODES = next(row for row in TABLE if row.plural == "nodes")
GPU = "nvidia.com/gpu"


def schedule(store: Store) -> None:
    """Bind every waiting pod that fits now; note on the others why they wait."""
    waiting = [pod for pod in store.all(PODS) if not pod["spec"].get("nodeName") and active(pod)]
    if not waiting:
        return
    free = _free(store)
    for pod in sorted(waiting, key=lambda row: (-_priority(row), int(row["metadata"]["resourceVersion"]))):
        chosen = _place(free, pod) or _by_preemption(store, free, pod)
        new = copy.deepcopy(pod)
        if chosen is None:
            why = f"0/{len(free)} nodes are available: {len(free)} Insufficient {GPU}."
            row = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
            new["status"]["conditions"] = [row]
        else:
            free[chosen] = (free[chosen][0] - gpus(pod), free[chosen][1])
            new["spec"]["nodeName"] = chosen
            new["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]
        store.replace(PODS, new, pod)


def gpus(pod: Object) -> int:
    """GPUs that a pod asks for."""
    rows = pod["spec"].get("containers", [])
    return sum(int(row.get("resources", {}).get("limits", {}).get(GPU, 0)) for row in rows)


def active(pod: Object) -> bool:
    """Whether a pod is not finished."""
    return pod["status"].get("phase") not in ("Succeeded", "Failed")


def _free(store: Store) -> dict[str, tuple[int, Object]]:
    used: dict[str, int] = {}
    for pod in store.all(PODS):
        if pod["spec"].get("nodeName") and active(pod):
            used[pod["spec"]["nodeName"]] = used.get(pod["spec"]["nodeName"], 0) + gpus(pod)
    rows = {row["metadata"]["name"]: row for row in store.all(NODES)}
    return {name: (int(row["status"]["allocatable"].get(GPU, 0)) - used.get(name, 0), row) for name, row in rows.items()}


def _place(free: dict[str, tuple[int, Object]], pod: Object) -> str | None:
    """The node that the pod prefers most of those that take it; by name among equals."""
    fits = [name for name, (left, node) in free.items() if left >= gpus(pod) and accepts(node, pod)]
    return min(fits, key=lambda name: (-_preference(free[name][1], pod), name), default=None)


def _by_preemption(store: Store, free: dict[str, tuple[int, Object]], pod: Object) -> str | None:
    """A node whose pods of lower priority free enough, emptied of as many as that needs, the lowest first."""
    if pod["spec"].get("preemptionPolicy") == "Never":
        return None
    for name, (left, node) in free.items():
        lower = [row for row in store.all(PODS) if row["spec"].get("nodeName") == name and active(row)]
        lower = sorted((row for row in lower if _priority(row) < _priority(pod)), key=_priority)
        if not accepts(node, pod) or left + sum(map(gpus, lower)) < gpus(pod):
            continue
        for row in lower:
            if free[name][0] >= gpus(pod):
                break
            store.delete(PODS, row["metadata"]["namespace"], row["metadata"]["name"])
            free[name] = (free[name][0] + gpus(row), node)
        return name
    return None


def _priority(pod: Object) -> int:
    return int(pod["spec"].get("priority") or 0)


def accepts(node: Object, pod: Object) -> bool:
    """Whether the node is open and ready, and the pod's selector and required affinity match it."""
    labels, spec = node["metadata"].get("labels", {}), pod["spec"]
    ready = all(row["status"] == "True" for row in node["status"].get("conditions", []) if row["type"] == "Ready")
    if not ready or not all(_tolerated(taint, spec) for taint in _taints(node)):
        return False
    if any(labels.get(key) != value for key, value in spec.get("nodeSelector", {}).items()):
        return False
    required = _node_affinity(spec).get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(_matches(term, node) for term in required.get("nodeSelectorTerms", []))


def _taints(node: Object) -> list[Object]:
    """Those that keep pods off; a cordon counts as one (NodeUnschedulable), so a toleration of all taints tolerates it too."""
    shut = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    rows = [row for row in node["spec"].get("taints", []) if row["effect"] != "PreferNoSchedule"]
    return [*rows, shut] if node["spec"].get("unschedulable") else rows


def _tolerated(taint: Object, spec: Object) -> bool:
    return any(
        row.get("key", taint["key"]) == taint["key"] and row.get("effect", taint["effect"]) == taint["effect"]
        and (row.get("operator") == "Exists" or row.get("value", "") == taint.get("value", ""))
        for row in spec.get("tolerations", [])
    )  # fmt: skip


def _preference(node: Object, pod: Object) -> int:
    rows = _node_affinity(pod["spec"]).get("preferredDuringSchedulingIgnoredDuringExecution", [])
    return sum(row["weight"] for row in rows if _matches(row["preference"], node))


def _node_affinity(spec: Object) -> dict[str, Any]:
    found: dict[str, Any] = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return found


def _matches(term: Object, node: Object) -> bool:
    """A term holds if all its rows do; an empty one matches nothing (core/v1 NodeSelectorTerm)."""
    rows = [(row, node["metadata"].get("labels", {})) for row in term.get("matchExpressions", [])]
    rows += [(row, {"metadata.name": node["metadata"]["name"]}) for row in term.get("matchFields", [])]
    return bool(rows) and all(_holds(row, values) for row, values in rows)


def _holds(row: Object, values: dict[str, str]) -> bool:
    found = values.get(row["key"])
    match row["operator"]:
        case "In":
            return found in row["values"]
        case "NotIn":
            return found not in row["values"]
        case "Exists":
            return found is not None
        case _:
            return found is None
