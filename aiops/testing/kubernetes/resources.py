"""Which resources the server has, as a table, and how a request path names one."""

from __future__ import annotations

from dataclasses import dataclass

from aiops.testing.kubernetes.status import not_found


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource: where it is served, and which subresources it has. `builtin` ones take strategic merge patches."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    subresources: tuple[str, ...] = ()
    builtin: bool = True
    replicas_at: tuple[str, ...] = ("spec", "replicas")
    """Where the scale subresource finds the number (`specReplicasPath` of a custom resource)."""
    counted: bool = True
    """Whether a generation counts the changes of its specification."""

    @property
    def api_version(self) -> str:
        """`group/version`, without the slash for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`plural.group`, as error messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


TABLE = (
    Resource("", "v1", "nodes", "Node", False, ("status",), counted=False),
    Resource("", "v1", "namespaces", "Namespace", False, ("status",), counted=False),
    Resource("", "v1", "pods", "Pod", True, ("status", "eviction")),
    Resource("", "v1", "configmaps", "ConfigMap", counted=False),
    Resource("", "v1", "podtemplates", "PodTemplate", counted=False),
    Resource("autoscaling.x-k8s.io", "v1", "provisioningrequests", "ProvisioningRequest", True, ("status",), False),
    Resource("", "v1", "events", "Event", counted=False),
    Resource("apps", "v1", "deployments", "Deployment", True, ("status", "scale")),
    Resource("apps", "v1", "statefulsets", "StatefulSet", True, ("status", "scale")),
    Resource("apps", "v1", "replicasets", "ReplicaSet", True, ("status", "scale")),
    Resource("apps", "v1", "daemonsets", "DaemonSet", True, ("status",)),
    Resource("batch", "v1", "jobs", "Job", True, ("status",)),
    Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True, ("status",), counted=False),
    Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True, ("status",)),
    Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False),
    Resource("coordination.k8s.io", "v1", "leases", "Lease", counted=False),
    Resource("leaderworkerset.x-k8s.io", "v1", "leaderworkersets", "LeaderWorkerSet", True, ("status", "scale"), False),
    Resource(
        "kubeflow.org",
        "v1",
        "pytorchjobs",
        "PyTorchJob",
        True,
        ("status", "scale"),
        False,
        ("spec", "pytorchReplicaSpecs", "Worker", "replicas"),
    ),
    Resource("kueue.x-k8s.io", "v1beta2", "workloads", "Workload", True, ("status",), False),
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a request path names: a collection (no `name`), an object, or a subresource of one."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def target(path: str, table: tuple[Resource, ...]) -> Target:
    """The target of a path below /api or /apis; 404 where the server has no such resource."""
    parts = [part for part in path.split("/") if part]
    if len(parts) < 3:
        raise not_found("the server could not find the requested resource", path)
    group, version, rest = ("", parts[1], parts[2:]) if parts[:1] == ["api"] else (parts[1], parts[2], parts[3:])
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3] if rest else ("", "", "")
    for resource in table:
        if (resource.group, resource.version, resource.plural) == (group, version, plural):
            if subresource and subresource not in resource.subresources:
                break
            return Target(resource, namespace, name, subresource)
    raise not_found("the server could not find the requested resource", path)
