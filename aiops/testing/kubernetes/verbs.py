"""The REST verbs over the store: what GET, POST, PUT, PATCH and DELETE mean for an object and for its subresources."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiops.testing.kubernetes.eviction import evict
from aiops.testing.kubernetes.patch import merge, strategic
from aiops.testing.kubernetes.resources import Resource, Target
from aiops.testing.kubernetes.selection import by_text
from aiops.testing.kubernetes.status import Refused, expired, invalid, malformed
from aiops.testing.kubernetes.store import Object, Store

Query = Mapping[str, str]
_PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    "application/merge-patch+json": merge,
    "application/strategic-merge-patch+json": strategic,
}


def listing(store: Store, target: Target, query: Query) -> Object:
    """One page of a list; `continue` is answered from the same version or with 410 once that is forgotten."""
    resource = target.resource
    with store.changed:
        rows = store.all(resource, target.namespace)
        if query.get("labelSelector") or query.get("fieldSelector"):
            rows = [row for row in rows if by_text(query.get("labelSelector", ""), query.get("fieldSelector", ""), row)]
        version, start = store.version, 0
        if query.get("continue"):
            version, start = _continued(query["continue"])
            store.since(resource, version)
        limit = int(query.get("limit") or 0)
        page = rows[start : start + limit if limit else None]
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        if limit and start + limit < len(rows):
            meta["continue"] = base64.b64encode(f"{version}/{start + limit}".encode()).decode()
            if not (query.get("labelSelector") or query.get("fieldSelector")):  # with a selector nobody has counted
                meta["remainingItemCount"] = len(rows) - start - limit
        items = [_listed(resource, row) for row in page]
        return {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": meta, "items": items}


def _continued(token: str) -> tuple[int, int]:
    try:
        version, start = (int(part) for part in base64.b64decode(token).decode().split("/"))
    except ValueError:
        raise malformed("continue key is not valid") from None
    return version, start


def _listed(resource: Resource, row: Object) -> Object:
    """Items of built-in kinds do not repeat what the list says of them."""
    return {key: value for key, value in row.items() if key not in ("kind", "apiVersion")} if resource.builtin else row


def create(store: Store, target: Target, body: Object, query: Query) -> Object:
    """POST on a collection, or on the eviction subresource."""
    if target.subresource == "eviction":
        return evict(store, store.get(target.resource, target.namespace, target.name), body, dry_run(query))
    if target.name:
        raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    return store.create(target.resource, target.namespace, body, dry_run(query))


def replace(store: Store, target: Target, body: Object, query: Query) -> Object:
    """PUT. A Lease without a version is refused, as by the real server; other kinds overwrite unconditionally."""
    with store.changed:
        old = store.get(target.resource, target.namespace, target.name)
        if target.resource.plural == "leases" and "resourceVersion" not in body.get("metadata", {}):
            why = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
            raise invalid("leases.coordination.k8s.io", target.name, why)
        return _write(store, target, old, body, query)


def patch(store: Store, target: Target, body: Object, query: Query, content_type: str) -> Object:
    """PATCH by merge or strategic merge; 415 for other kinds of patch, and for strategic ones of custom resources."""
    how = _PATCHES.get(content_type)
    if how is None or (how is strategic and not target.resource.builtin):
        why = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(_PATCHES)
        raise Refused(415, "UnsupportedMediaType", why)
    with store.changed:
        old = store.get(target.resource, target.namespace, target.name)
        base = scale_of(target.resource, old) if target.subresource == "scale" else old
        try:
            return _write(store, target, old, how(base, body), query)
        except Refused as refused:
            if refused.code != 400:
                raise
            raise invalid("", "", f"patch: Invalid value: {refused.message}") from None


def delete(store: Store, target: Target, body: Object, query: Query) -> Object:
    """DELETE, with the uid precondition of `DeleteOptions`."""
    with store.changed:
        old = store.get(target.resource, target.namespace, target.name)
        wanted = (body.get("preconditions") or {}).get("uid", old["metadata"]["uid"])
        if wanted != old["metadata"]["uid"]:
            raise Refused(409, "Conflict", f"Precondition failed: UID in precondition: {wanted}")
        gone = store.delete(target.resource, target.namespace, target.name, dry_run(query))
    if target.resource.plural == "pods":
        return gone
    details = {"name": target.name, "kind": target.resource.plural, "uid": gone["metadata"]["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def read(store: Store, target: Target) -> Object:
    """GET of an object or its scale."""
    found = store.get(target.resource, target.namespace, target.name)
    return scale_of(target.resource, found) if target.subresource == "scale" else found


def _write(store: Store, target: Target, old: Object, wanted: Object, query: Query) -> Object:
    """Only the part of `wanted` that this (sub)resource owns is written."""
    new = copy.deepcopy(old)
    meta = wanted.get("metadata", {})
    for field in ("resourceVersion", "uid"):
        if field in meta:
            new["metadata"][field] = meta[field]
    if target.subresource == "scale":
        *way, last = target.resource.replicas_at
        count = wanted.get("spec", {}).get("replicas", 0)
        if count < 0:
            raise invalid("Scale", target.name, f"spec.replicas: Invalid value: {count}: must be greater than or equal to 0")
        _at(new, way)[last] = count
        return scale_of(target.resource, store.replace(target.resource, new, old, dry_run(query)))
    if target.subresource == "status":
        new["status"] = wanted.get("status", {})
        return store.replace(target.resource, new, old, dry_run(query))
    kept = {"status": old["status"]} if "status" in old and "status" in target.resource.subresources else {}
    whole = {**copy.deepcopy(wanted), "apiVersion": old["apiVersion"], "kind": old["kind"]}
    whole["metadata"] = {**meta, **{field: new["metadata"][field] for field in ("resourceVersion", "uid", "name")}}
    if not kept and "status" in target.resource.subresources:
        whole.pop("status", None)
    return store.replace(target.resource, {**whole, **kept}, old, dry_run(query))


def _at(found: Object, way: Sequence[str]) -> Object:
    for name in way:
        found = found[name]
    return found


def scale_of(resource: Resource, found: Object) -> Object:
    """The `Scale` of an object."""
    *way, last = resource.replicas_at
    meta = {key: found["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    return {
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta,
        "spec": {"replicas": count} if (count := _at(found, way).get(last, 1)) else {},  # zero is left out
        "status": {"replicas": found.get("status", {}).get("replicas", 0)},
    }  # fmt: skip


def dry_run(query: Query) -> bool:
    """Whether the request only asks what would happen; 400 for any other value than All."""
    if query.get("dryRun", "All") != "All":
        raise invalid("Options", "", f"dryRun: Unsupported value: {query['dryRun']!r}", "FieldValueNotSupported")
    return "dryRun" in query


def check_version(store: Store, resource: Resource, version: int) -> None:
    """410 for a watch from a version that is forgotten."""
    if version > store.version:
        raise expired(version)
    store.since(resource, version)
