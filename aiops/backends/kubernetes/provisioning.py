"""Nodes asked of the autoscaler by a ProvisioningRequest: one object for all of them, where the cluster's autoscaler knows it.

The alternative to placeholder pods for a growing pool. What is asked for is whole or not at all if the class says so, and needs
no pod that waits. A request lapses by itself (its booking expires); nothing here deletes one. Names follow from the promise, so
a repeated creation is the same object (409, which is as good as done).
"""

from __future__ import annotations

from aiops.backends.kubernetes import placeholders
from aiops.backends.kubernetes.connection import Object, Refused
from aiops.backends.kubernetes.desk import Desk, Place
from aiops.backends.kubernetes.kinds import POD_TEMPLATES, PROVISIONING, Kind
from aiops.backends.kubernetes.placeholders import Claim

_VOID = frozenset({"Failed", "BookingExpired", "CapacityRevoked"})


def ask(desk: Desk, claim: Claim) -> str | None:
    """Ask for the claim's room; None once it is asked for, else why it could not be."""
    if not claim.rooms:
        return None
    pod = placeholders.pod(desk, claim, claim.rooms[0], 0)
    template = {"metadata": pod["metadata"] | {"name": claim.name}, "template": {key: pod[key] for key in ("metadata", "spec")}}
    request = {
        "apiVersion": f"{PROVISIONING.group}/{PROVISIONING.version}", "kind": "ProvisioningRequest",
        "metadata": template["metadata"],
        "spec": {
            "provisioningClassName": desk.settings.provisioning_class,
            "podSets": [{"podTemplateRef": {"name": claim.name}, "count": len(claim.rooms)}],
        },
    }  # fmt: skip
    return _made(desk, POD_TEMPLATES, template) or _made(desk, PROVISIONING, request)


def stands(desk: Desk, name: str) -> bool:
    """Whether the request is there and the autoscaler has not given it up."""
    found = desk.find(Place(PROVISIONING, desk.settings.state_namespace, name))
    rows = ((found or {}).get("status") or {}).get("conditions") or ()
    return found is not None and not any(row["type"] in _VOID and row["status"] == "True" for row in rows)


def _made(desk: Desk, kind: Kind, body: Object) -> str | None:
    try:
        desk.connection.create(kind.path(desk.settings.state_namespace), body)
    except Refused as error:
        if error.code != 409:
            return f"{kind.plural} {body['metadata']['name']} was refused: {error}"
    return None
