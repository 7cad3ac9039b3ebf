"""Custom resources with a scale subresource, as their own projects declare them, cut down to what matters here."""

from typing import Any

_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _crd(group: str, kind: str, replicas_at: str, spec: dict[str, Any]) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    scale = {"specReplicasPath": replicas_at, "statusReplicasPath": ".status.replicas"}
    version = {
        "name": "v1", "served": True, "storage": True, "subresources": {"status": {}, "scale": scale},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": _OPEN}}},
    }  # fmt: skip
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }  # fmt: skip


_COUNT = {"type": "integer", "minimum": 0}
LEADER_WORKER_SET = _crd(
    "leaderworkerset.x-k8s.io", "LeaderWorkerSet", ".spec.replicas",
    {**_OPEN, "properties": {"replicas": {"type": "integer"}}},
)  # fmt: skip
_WORKER = {"type": "object", "properties": {"replicas": _COUNT}}
_SPECS = {"type": "object", "properties": {"Worker": _WORKER}}
PYTORCH_JOB = _crd(
    "kubeflow.org", "PyTorchJob", ".spec.pytorchReplicaSpecs.Worker.replicas",
    {"type": "object", "properties": {"pytorchReplicaSpecs": _SPECS}},
)  # fmt: skip
_FIXED = [{"rule": "self == oldSelf", "message": "Value is immutable"}]
_POD_SET = {
    "type": "object", "required": ["count", "podTemplateRef"],
    "properties": {
        "count": {"type": "integer", "minimum": 1},
        "podTemplateRef": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
    },
}  # fmt: skip
PROVISIONING_REQUEST = _crd(
    "autoscaling.x-k8s.io", "ProvisioningRequest", ".spec.replicas",
    {
        "type": "object", "required": ["podSets", "provisioningClassName"],
        "properties": {
            "podSets": {"type": "array", "minItems": 1, "maxItems": 32, "items": _POD_SET, "x-kubernetes-validations": _FIXED},
            "provisioningClassName": {"type": "string", "maxLength": 253, "x-kubernetes-validations": _FIXED},
        },
    },
)  # fmt: skip
SERVICE_MONITOR = _crd("monitoring.coreos.com", "ServiceMonitor", ".spec.replicas", _OPEN)


def workload(**served: bool) -> dict[str, Any]:
    """Kueue's Workload in these versions, served or not; objects are stored in the last."""
    body = _crd("kueue.x-k8s.io", "Workload", ".spec.replicas", _OPEN)
    (only,) = body["spec"]["versions"]
    rows = [{**only, "name": name, "served": now, "storage": name == list(served)[-1]} for name, now in served.items()]
    return {**body, "spec": {**body["spec"], "versions": rows}}
