"""Nodes asked of the autoscaler by a ProvisioningRequest: one object for all of them, where the cluster's autoscaler knows it.

The alternative to placeholder pods for a growing pool. What is asked for is whole or not at all if the class says so, and needs
no pod that waits. A request lapses by itself (its booking expires); nothing here deletes one. Names follow from the promise, so
a repeated creation is the same object (409, which is as good as done as long as the autoscaler has not given it up: its
specification is immutable and nothing brings it back, so that only another action, by another name, asks again).
"""

from __future__ import annotations

from aiops.action import Outcome
from aiops.backends.kubernetes import placeholders
from aiops.backends.kubernetes.connection import Object, Refused
from aiops.backends.kubernetes.desk import Answer, Desk, Place
from aiops.backends.kubernetes.kinds import POD_TEMPLATES, PROVISIONING, Kind
from aiops.backends.kubernetes.placeholders import Claim

_VOID = frozenset({"Failed", "BookingExpired", "CapacityRevoked"})


def ask(desk: Desk, claim: Claim) -> Answer | None:
    """Ask for the claim's room; None once it is asked for. UNKNOWN where it could not be, FAILED where it was given up."""
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
    why = _made(desk, POD_TEMPLATES, template) or _made(desk, PROVISIONING, request)
    if why is not None:
        return Outcome.UNKNOWN, why
    void = given_up(desk, claim.name)
    return (Outcome.FAILED, void) if void else None


def given_up(desk: Desk, name: str) -> str:
    """Why the request promises nothing (any more): it is not there, or the autoscaler says so; empty where it stands."""
    found = desk.find(Place(PROVISIONING, desk.settings.state_namespace, name))
    if found is None:
        return f"there is no ProvisioningRequest {name}"
    rows = (found.get("status") or {}).get("conditions") or ()
    void = next((row for row in rows if row.get("type") in _VOID and row.get("status") == "True"), None)
    return f"ProvisioningRequest {name}: {void['type']}: {void.get('message', '')}"[:300] if void is not None else ""


def _made(desk: Desk, kind: Kind, body: Object) -> str | None:
    try:
        desk.connection.create(kind.path(desk.settings.state_namespace), body)
    except Refused as error:
        if error.code != 409:
            return f"{kind.plural} {body['metadata']['name']} was refused: {error}"
    return None
