"""Manifests onto an API server as `kubectl apply --server-side --validate=strict` would: an unknown field is an error."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from aiops.backends.kubernetes.connection import Connection, Object

_PLACES = {
    "Namespace": ("/api/v1", "namespaces"), "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "ConfigMap": ("/api/v1", "configmaps"), "Service": ("/api/v1", "services"),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims"), "Deployment": ("/apis/apps/v1", "deployments"),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "PriorityClass": ("/apis/scheduling.k8s.io/v1", "priorityclasses"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "ServiceMonitor": ("/apis/monitoring.coreos.com/v1", "servicemonitors"),
    "CustomResourceDefinition": ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
}  # fmt: skip


def documents(*paths: Path) -> list[dict[str, Any]]:
    """All objects of these files, in order."""
    return [row for path in paths for row in YAML(typ="safe", pure=True).load_all(path.read_text()) if row]


def apply(rest: Connection, rows: Iterable[Object], dry_run: bool = False) -> list[Object]:
    """What the server made of each object. Raises Refused for what it does not take."""
    return [_apply(rest, row, dry_run) for row in rows]


def _apply(rest: Connection, row: Object, dry_run: bool) -> Object:
    root, plural = _PLACES[row["kind"]]
    scope = f"/namespaces/{row['metadata']['namespace']}" if row["metadata"].get("namespace") else ""
    query = {"fieldManager": "test", "fieldValidation": "Strict", "force": "true", **({"dryRun": "All"} if dry_run else {})}
    path = f"{root}{scope}/{plural}/{row['metadata']['name']}"
    return rest._json("PATCH", path, query, row, "application/apply-patch+yaml")


def service_account_token(rest: Connection, namespace: str = "aiops", name: str = "aiops") -> str:
    """A token as a pod of that service account gets it."""
    body = {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "metadata": {"name": name, "namespace": namespace}, "spec": {"expirationSeconds": 3600},
    }  # fmt: skip
    made = rest.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", body)
    return str(made["status"]["token"])
