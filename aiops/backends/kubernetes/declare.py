"""What a person may declare about a cluster: how to reach it, what counts as a GPU, a pool, a service and a link.

Which objects aiops may scale is not declared here but on the objects themselves (`aiops.io/target`): their owners opt in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from aiops.backends.kubernetes.kinds import Kind
from aiops.errors import ConfigError
from aiops.settings import Seconds, Section, invalid

_KIND = re.compile(r"[a-z0-9.-]+/v[0-9a-z]+/[a-z]+(/scale)?")


def _kind(value: str) -> str:
    if not _KIND.fullmatch(value):
        raise ValueError("expected group/version/plural, such as apps/v1/deployments")
    return value


KindName = Annotated[str, AfterValidator(_kind)]


_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def own_namespace() -> str:
    """The namespace that this very pod runs in; `aiops` outside of a cluster."""
    return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.is_file() else "aiops"


class LinkSpec(Section):
    """A shared capacity that the API server knows nothing of; reservations on it are accounted, not enforced."""

    capacity: float = Field(gt=0, lt=1e15)
    kind: str = "fabric"
    parent: str = ""


class QueueSpec(Section):
    """A queue's share of the GPUs; names are those of Kueue local queues, `namespace/queue`."""

    quota_gpus: int = Field(ge=0)
    lends: bool = True
    borrows: bool = True
    priority: int = 0


class PoolSpec(Section):
    """How far a pool of nodes may be grown; `gpus` of one node, needed only where the pool may be empty."""

    min: int = Field(default=0, ge=0)
    max: int = Field(ge=0)
    gpus: int = Field(default=0, ge=0)


class KubernetesSettings(Section):
    """The section `backend.kubernetes`. Without `kubeconfig`: the pod's service account, else the user's default kubeconfig."""

    kubeconfig: Path | None = None
    context: str = ""
    namespaces: tuple[str, ...] = ()
    gpu_resources: tuple[str, ...] = ("nvidia.com/gpu", "nvidia.com/mig-", "amd.com/gpu", "intel.com/gpu", "gpu.intel.com/")
    pool_labels: tuple[str, ...] = (
        "aiops.io/pool",
        "karpenter.sh/nodepool",
        "cloud.google.com/gke-nodepool",
        "eks.amazonaws.com/nodegroup",
        "kubernetes.azure.com/agentpool",
    )
    rack_label: str = "topology.kubernetes.io/rack"
    scalables: tuple[KindName, ...] = (
        "apps/v1/deployments",
        "apps/v1/statefulsets",
        "leaderworkerset.x-k8s.io/v1/leaderworkersets",
    )
    links: dict[str, LinkSpec] = Field(default_factory=dict)
    queues: dict[str, QueueSpec] = Field(default_factory=dict)
    pools: dict[str, PoolSpec] = Field(default_factory=dict)
    state_namespace: str = Field(default_factory=own_namespace)
    hold_priority_class: str = "aiops-hold"
    headroom_priority_class: str = "aiops-headroom"
    headroom: Seconds = 1800.0
    provisioning_class: str = ""
    kueue_boost: int = Field(default=0, ge=0, le=1_000_000)
    placeholder_image: str = "registry.k8s.io/pause:3.10"
    timeout: Seconds = 5.0
    watch: Seconds = Field(default=5.0, ge=1.0, le=300.0)
    max_age: Seconds = 10.0

    @property
    def scalable_kinds(self) -> tuple[Kind, ...]:
        """Kinds that are looked through for services."""
        return tuple(Kind.parse(name) for name in self.scalables)


def read(section: Mapping[str, Any], where: str) -> KubernetesSettings:
    """Checked settings; a relative `kubeconfig` is taken from the directory of the file that names it."""
    try:
        settings = KubernetesSettings(**section)
    except ValidationError as error:
        raise invalid(error, where, "backend.kubernetes") from None
    if settings.kubeconfig is None:
        return settings
    base = Path(where).resolve().parent if Path(where).is_file() else Path.cwd()
    path = base / settings.kubeconfig.expanduser()
    if not path.is_file():
        raise ConfigError(where, "backend.kubernetes.kubeconfig", f"expected a readable file, found none at {path}")
    return settings.model_copy(update={"kubeconfig": path})
