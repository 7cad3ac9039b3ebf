"""The server's memory: objects by resource, one growing version, and a window of events for watches.

Like etcd behind a watch cache: every write takes the next version; a watch from a version that has left the window is
answered with 410. All methods are safe to call from many threads.
"""

from __future__ import annotations

import copy
import threading
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

from aiops.testing.kubernetes.admission import check, check_change, default, prioritise
from aiops.testing.kubernetes.resources import Resource
from aiops.testing.kubernetes.status import Refused, conflict, expired, invalid, not_found

Object = dict[str, Any]
Key = tuple[str, str]
Event = tuple[int, str, Object, Object | None]
"""Version, kind, the object, and what it was before."""


class Store:
    """Objects and their history. `on_write` is called after each write, under the lock; writes may nest."""

    def __init__(self, clock: Callable[[], str], window: int = 20_000) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = 1
        self._clock = clock
        self._objects: dict[str, dict[Key, Object]] = {}
        self._events: dict[str, deque[Event]] = {}
        self._oldest: dict[str, int] = {}
        self._window = window
        self.on_write: Callable[[], None] = lambda: None
        self.evicted: set[str] = set()
        """Uids of pods that left by the eviction subresource: they carried the condition DisruptionTarget."""

    # -- reading -------------------------------------------------------------------------------------------------------

    def all(self, resource: Resource, namespace: str = "") -> list[Object]:
        """Objects of a resource in the order of their keys; not copies: never change them."""
        with self.changed:
            rows = self._objects.get(resource.qualified, {})
            return [rows[key] for key in sorted(rows) if not namespace or key[0] == namespace]

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """A copy of one object; 404 where there is none."""
        with self.changed:
            found = self._objects.get(resource.qualified, {}).get((namespace, name))
            if found is None:
                raise not_found(resource.qualified, name)
            return copy.deepcopy(found)

    def since(self, resource: Resource, version: int) -> list[Event]:
        """Events after `version`, oldest first; 410 where some of them are forgotten."""
        with self.changed:
            if version < self._oldest.get(resource.qualified, 0):
                raise expired(version)
            return [row for row in self._events.get(resource.qualified, ()) if row[0] > version]

    def forget(self) -> None:
        """Compaction: no watch can be resumed from before now."""
        with self.changed:
            self.version += 1
            for name in self._objects:
                self._events[name] = deque()
                self._oldest[name] = self.version

    # -- writing -------------------------------------------------------------------------------------------------------

    def create(self, resource: Resource, namespace: str, body: Object, dry_run: bool = False) -> Object:
        """The created object; 409 AlreadyExists, 422 without a name."""
        new = copy.deepcopy(body)
        meta = new.setdefault("metadata", {})
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
        name = meta.get("name")
        if not name:
            raise invalid(
                resource.kind, "", "metadata.name: Required value: name or generateName is required", "FieldValueRequired"
            )
        with self.changed:
            rows = self._objects.setdefault(resource.qualified, {})
            if (namespace, name) in rows:
                raise Refused(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists')
            new["apiVersion"], new["kind"] = resource.api_version, resource.kind
            meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": self._clock()}
            if resource.counted:
                meta["generation"] = 1
            if resource.namespaced:
                meta["namespace"] = namespace
            default(resource, new)
            check(resource, new)
            if resource.plural == "pods":
                new.setdefault("status", {}).setdefault("phase", "Pending")
                prioritise(new, self._objects.get("priorityclasses.scheduling.k8s.io", {}).values())
            return new if dry_run else self._keep(resource, new, "ADDED")

    def replace(self, resource: Resource, new: Object, old: Object, dry_run: bool = False) -> Object:
        """The object after a write computed from `old`; 409 unless its version, if given, is current, 422 for another uid."""
        with self.changed:
            meta, name = new["metadata"], old["metadata"]["name"]
            current = self.get(resource, old["metadata"].get("namespace", ""), name)["metadata"]
            if meta.get("resourceVersion", current["resourceVersion"]) != current["resourceVersion"]:
                raise conflict(resource.qualified, name, _MODIFIED)
            if meta.get("uid", current["uid"]) != current["uid"]:
                raise invalid(resource.kind, name, f'metadata.uid: Invalid value: "{meta["uid"]}": field is immutable')
            for field in ("uid", "resourceVersion", "creationTimestamp", "generation", "name", "namespace"):
                if field in current:
                    meta[field] = current[field]
            default(resource, new)
            check(resource, new)
            check_change(resource, old, new)
            if resource.counted and (new.get("spec") != old.get("spec") or _renoted(resource, new, old)):
                meta["generation"] = current["generation"] + 1
            if new == old or dry_run:
                return new  # a write that changes nothing has no version of its own
            return self._keep(resource, new, "MODIFIED")

    def delete(self, resource: Resource, namespace: str, name: str, dry_run: bool = False) -> Object:
        """The object as it was; its DELETED event carries a version of its own."""
        with self.changed:
            old = self.get(resource, namespace, name)
            if not dry_run:
                del self._objects[resource.qualified][(namespace, name)]
                self._note(resource, old, "DELETED")
            return old

    def _keep(self, resource: Resource, new: Object, kind: str) -> Object:
        meta = new["metadata"]
        self._note(resource, new, kind, lambda: self._put(resource, (meta.get("namespace", ""), meta["name"]), new))
        return copy.deepcopy(new)

    def _put(self, resource: Resource, key: Key, new: Object) -> None:
        self._objects.setdefault(resource.qualified, {})[key] = new

    def _note(self, resource: Resource, found: Object, kind: str, store: Callable[[], None] = lambda: None) -> None:
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)
        meta = found["metadata"]
        before = self._objects.get(resource.qualified, {}).get((meta.get("namespace", ""), meta["name"]))
        store()
        events = self._events.setdefault(resource.qualified, deque())
        events.append((self.version, kind, found, before if kind == "MODIFIED" else None))
        if len(events) > self._window:
            self._oldest[resource.qualified] = events.popleft()[0]
        self.changed.notify_all()
        self.on_write()


def _renoted(resource: Resource, new: Object, old: Object) -> bool:
    """Of a Deployment annotations count as its specification does (pkg/registry/apps/deployment/strategy.go)."""
    notes = [row["metadata"].get("annotations") or {} for row in (new, old)]
    return resource.plural == "deployments" and notes[0] != notes[1]


_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
