"""Merge patch (RFC 7386) and strategic merge patch, the latter with the merge keys of the lists that controllers patch."""

from __future__ import annotations

import copy
from typing import Any

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "ports": "containerPort",
    "taints": "key",
    "conditions": "type",
    "ownerReferences": "uid",
    "imagePullSecrets": "name",
}
"""`patchMergeKey` of the built-in types (k8s.io/api); every other list is replaced whole."""


def merge(current: Any, patch: Any) -> Any:
    """RFC 7386: null deletes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    out = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return out


def strategic(current: Any, patch: Any, field: str = "") -> Any:
    """Strategic merge: as `merge`, but lists with a merge key are merged by it; `$patch: delete` removes an element."""
    if isinstance(patch, list):
        key = MERGE_KEYS.get(field)
        if key is None or not isinstance(current, list) or not all(isinstance(row, dict) for row in patch):
            return copy.deepcopy(patch)
        return _by_key(current, patch, key)
    if not isinstance(patch, dict):
        return patch
    out = dict(current) if isinstance(current, dict) else {}
    for name, value in patch.items():
        if value is None:
            out.pop(name, None)
        else:
            out[name] = strategic(out.get(name), value, name)
    return out


def _by_key(current: list[Any], patch: list[Any], key: str) -> list[Any]:
    """In the patch's order, what it does not name where it stood before; what is new comes first (normalizeElementOrder)."""
    rows, place = {row.get(key): row for row in current}, {row.get(key): i for i, row in enumerate(current)}
    gone = {row.get(key) for row in patch if row.get("$patch") == "delete"}
    named = [row for row in patch if row.get("$patch") != "delete"]
    kept = [row for row in current if row.get(key) not in gone | {one.get(key) for one in named}]
    out: list[Any] = []
    for change in named:
        while kept and place[kept[0].get(key)] < place.get(change.get(key), -1):
            out.append(kept.pop(0))
        out.append(strategic(rows.get(change.get(key)), change))
    return [*out, *kept]
