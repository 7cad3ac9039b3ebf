"""Pods that do nothing but take room: what a hold and a growing pool look like to the scheduler and the autoscaler.

Their names follow from the promise that they stand for, so a repeated creation is the same pod (409, which is as good as
done). They leave by the Eviction API like everything else, and by their own deadline should no daemon be left to evict them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiops import codec
from aiops.action import Outcome
from aiops.backends.kubernetes.connection import Object, Refused
from aiops.backends.kubernetes.desk import Answer, Desk
from aiops.backends.kubernetes.kinds import PODS
from aiops.backends.kubernetes.marks import CLAIM
from aiops.backends.kubernetes.records import Reader
from aiops.backends.kubernetes.stopping import evict

_RESTRICTED = {  # what the Pod Security level "restricted", which the namespace of aiops enforces, asks for
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
}  # fmt: skip
_POD = {"runAsNonRoot": True, "runAsUser": 65535, "seccompProfile": {"type": "RuntimeDefault"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Room for one placeholder: how much (resource to quantity), and where (a node, or nodes with these labels)."""

    resources: Mapping[str, str]
    node: str = ""
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A promise as placeholders keep it. `name` is unique to the promise and its generation; `lives_s` None is for ever."""

    name: str
    rooms: tuple[Room, ...]
    priority_class: str
    lives_s: float | None


def name_of(*parts: object) -> str:
    """A deterministic DNS label for a promise, from what makes it this one."""
    return f"{parts[0]}-{codec.digest(tuple(str(part) for part in parts))[:12]}"


def impose(desk: Desk, claim: Claim) -> str | None:
    """Create the claim's placeholders; None when all exist, else why the first one could not be made."""
    for index, room in enumerate(claim.rooms):
        try:
            desk.connection.create(PODS.path(desk.settings.state_namespace), pod(desk, claim, room, index))
        except Refused as error:
            if error.code != 409:
                return f"placeholder {index + 1} of {len(claim.rooms)} was refused: {error}"
    return None


def imposed(desk: Desk, claim: str) -> int:
    """How many placeholders of a claim there are, placed or waiting to be."""
    return len(_standing(desk, f"{CLAIM}={claim}"))


def withdraw(desk: Desk, over: Callable[[str], bool]) -> Answer | None:
    """Evict the placeholders of the claims that are over; None when all go, else why one stays."""
    reader = Reader(desk.settings.gpu_resources)
    for pod in _standing(desk, CLAIM):
        if over(pod["metadata"]["labels"][CLAIM]):
            stays = evict(desk, reader.pod(pod))
            if stays is not None:
                return Outcome.UNKNOWN, stays
    return None


def _standing(desk: Desk, selector: str) -> list[Any]:
    rows = desk.connection.get(PODS.path(desk.settings.state_namespace), {"labelSelector": selector})["items"]
    return [row for row in rows if not row["metadata"].get("deletionTimestamp")]


def _taints(desk: Desk) -> list[str]:
    """GPU nodes are tainted by their resource's name against work without GPUs. Never all taints: a cordon is one of them."""
    return [name for name in desk.settings.gpu_resources if name[-1] not in "-/"]


def pod(desk: Desk, claim: Claim, room: Room, index: int) -> Object:
    """One placeholder."""
    spec: Object = {
        "containers": [{
            "name": "placeholder", "image": desk.settings.placeholder_image, "securityContext": _RESTRICTED,
            "resources": {"requests": dict(room.resources), "limits": dict(room.resources)},
        }],
        "priorityClassName": claim.priority_class, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False, "securityContext": _POD,
        "tolerations": [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in _taints(desk)],
    }  # fmt: skip
    if claim.lives_s is not None:
        spec["activeDeadlineSeconds"] = max(1, math.ceil(claim.lives_s))
    if room.labels:
        spec["nodeSelector"] = dict(room.labels)
    if room.node:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [room.node]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        spec["affinity"] = {"nodeAffinity": required}
    labels = {CLAIM: claim.name, "app.kubernetes.io/managed-by": "aiops"}
    meta = {"name": f"{claim.name}-{index}", "labels": labels, "annotations": {"aiops.io/by": desk.id}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
