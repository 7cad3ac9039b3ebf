"""Kinds of objects and the REST paths that lead to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource by group, version and plural name."""

    group: str
    version: str
    plural: str
    namespaced: bool = True
    scaled: bool = False
    """Its replicas are read and set through the scale subresource."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `group/version/plural`, with `/scale` behind it where replicas are to be had through that subresource only."""
        group, version, plural, *scale = text.split("/")
        return cls(group, version, plural, scaled=bool(scale))

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Path of the collection (all namespaces if none is given), of an object, or of its subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = ("namespaces", namespace) if namespace and self.namespaced else ()
        return "/".join((root, *scope, self.plural, *((name,) if name else ()), *((subresource,) if subresource else ())))


NODES = Kind("", "v1", "nodes", namespaced=False)
PODS = Kind("", "v1", "pods")
POD_TEMPLATES = Kind("", "v1", "podtemplates")
PROVISIONING = Kind("autoscaling.x-k8s.io", "v1", "provisioningrequests")
CONFIG_MAPS = Kind("", "v1", "configmaps")
LEASES = Kind("coordination.k8s.io", "v1", "leases")
JOBS = Kind("batch", "v1", "jobs")
BUDGETS = Kind("policy", "v1", "poddisruptionbudgets")
PRIORITIES = Kind("scheduling.k8s.io", "v1", "priorityclasses", namespaced=False)
AUTOSCALERS = Kind("autoscaling", "v2", "horizontalpodautoscalers")
WORKLOADS = tuple(Kind("kueue.x-k8s.io", version, "workloads") for version in ("v1beta2", "v1", "v1beta1"))
"""Kueue's Workload, in the order of preference: v1beta2 (0.15 and later) is known to have every field that is read here, v1
is not there yet, v1beta1 is deprecated and the only one of earlier releases. What is read is the same in all."""
