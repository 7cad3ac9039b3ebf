"""The discovery documents, so that any client (kubectl among them) finds its way."""

from __future__ import annotations

from typing import Any

from aiops.testing.kubernetes.resources import Resource

_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def discovery(path: str, table: tuple[Resource, ...]) -> dict[str, Any] | None:
    """The document at a discovery path, or None where the path is none."""
    parts = [part for part in path.split("/") if part]
    groups = sorted({(row.group, row.version) for row in table if row.group})
    match parts:
        case ["version"]:
            return {"major": "1", "minor": "33", "gitVersion": "v1.33.0-in-process"}
        case ["readyz"] | ["livez"]:
            return {}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*row) for row in groups]}
        case ["api", version]:
            return _resources("", version, table)
        case ["apis", group] if any(group == known for known, _ in groups):
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(*next(row for row in groups if row[0] == group))}
        case ["apis", group, version] if (group, version) in groups:
            return _resources(group, version, table)
        case _:
            return None


def _group(group: str, version: str) -> dict[str, Any]:
    row = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [row], "preferredVersion": row}


def _resources(group: str, version: str, table: tuple[Resource, ...]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for row in table:
        if (row.group, row.version) == (group, version):
            same = {"singularName": row.kind.lower(), "namespaced": row.namespaced, "verbs": _VERBS}
            rows.append({"name": row.plural, "kind": row.kind, **same})
            for sub in row.subresources:
                kind, served = _SUBRESOURCES.get(sub, (row.kind, {}))
                rows.append({"name": f"{row.plural}/{sub}", "kind": kind, **same, **served})
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": rows}


_SUBRESOURCES: dict[str, tuple[str, dict[str, Any]]] = {
    "eviction": ("Eviction", {"group": "policy", "version": "v1", "verbs": ["create"]}),
    "scale": ("Scale", {"group": "autoscaling", "version": "v1", "verbs": ["get", "patch", "update"]}),
}
