"""Kueue's Workloads on a real API server, as the service account of the manifests: `kueue.yaml` is enough, and needed.

No Kueue runs: the custom resource is declared by a schema of our own, and the test says what Kueue would (its conditions).
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cluster_stage import JOBS, ClusterStage, real
from crds import workload
from manifests import apply, documents, service_account_token
from real_control_plane import RealApiServer
from test_kubernetes_boost import BOOST, EVICTED, MARK, RESERVED
from test_kubernetes_daemon import DEPLOY, GRANTED

from aiops.action import Effect, Outcome, TuneJob
from aiops.backends.kubernetes import KubernetesBackend
from aiops.backends.kubernetes.boost import KNOB
from aiops.model import Job
from aiops.testing.backend import admit

pytestmark = pytest.mark.real
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WORKLOADS = "/apis/kueue.x-k8s.io/v1beta2/namespaces/default/workloads"
REASONED = {"reason": "Tested", "lastTransitionTime": "2026-01-01T00:00:00Z"}
BINDING = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/aiops-kueue"


class Queued:
    """`train` in a Kueue queue, and a backend with the manifests' own account and nothing more."""

    def __init__(self, cluster: ClusterStage, config: Path) -> None:
        self.cluster = cluster
        self.backend = KubernetesBackend.from_settings({"kubeconfig": str(config), "watch": 1.0, "kueue_boost": 100}, "test")
        labels = {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "team"}}}
        uid = cluster.rest.patch(f"{JOBS}/train", labels)["metadata"]["uid"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": uid, "controller": True}
        meta = {"name": "job-train", "labels": {"kueue.x-k8s.io/job-uid": uid}, "ownerReferences": [owner]}
        kind = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Workload"}
        cluster.rest.create(WORKLOADS, {**kind, "metadata": meta, "spec": {"priority": 7}})
        self.says(RESERVED)

    def says(self, *conditions: dict[str, str]) -> None:
        """What Kueue says of it now."""
        rows = [{**REASONED, **row} for row in conditions]
        self.cluster.rest.patch(f"{WORKLOADS}/job-train/status", {"status": {"conditions": rows}})

    def train(self, boost: float | None) -> Job:
        """`train`, once this backend sees it with that boost on offer."""

        def seen() -> Job | None:
            rows = self.backend.observe(self.cluster.now()).jobs
            found = next(row for row in rows if row.name == "train")
            return (
                found if found.priority == 7 and [k.value for k in found.knobs] == ([] if boost is None else [boost]) else None
            )

        found: Job = self.cluster.soon(seen)
        return found

    def notes(self) -> tuple[str | None, str | None]:
        notes = self.cluster.rest.get(f"{WORKLOADS}/job-train")["metadata"].get("annotations") or {}
        return notes.get(BOOST), notes.get(MARK)


@pytest.fixture
def queued(control_plane: RealApiServer | None, tmp_path: Path) -> Iterator[Queued]:
    if control_plane is None:
        pytest.skip("KUBE_ASSETS names no folder with a whole control plane")
    with ExitStack() as stack:
        cluster = stack.enter_context(real(control_plane, tmp_path))
        rows = documents(*(DEPLOY / name for name in ("aiops.yaml", "kueue.yaml")))
        apply(cluster.rest, [row for row in rows if row["kind"] in GRANTED])
        cluster.rest.create(CRDS, workload(v1beta1=True, v1beta2=True))
        stack.callback(cluster._delete, f"{CRDS}/workloads.kueue.x-k8s.io", {})
        cluster.soon(lambda: cluster._exists(WORKLOADS))
        config = control_plane.kubeconfig(tmp_path / "service-account.kubeconfig", service_account_token(cluster.rest))
        made = Queued(cluster, config)
        stack.callback(made.backend.close)
        yield made


def wish(found: Job, value: float, was: float) -> Any:
    return admit(TuneJob(job=found.id, run_id=found.run_id, knob=KNOB, value=value, was=was), id=f"b{value:g}")


def test_a_boost_is_written_read_and_taken_back_with_the_manifests_account(queued: Queued) -> None:
    up, now = wish(queued.train(0.0), 100.0, 0.0), queued.cluster.now
    assert queued.backend.probe(up, now()) is Effect.ABSENT
    receipt = queued.backend.apply(up, now())
    assert receipt.outcome is Outcome.DONE, receipt.detail
    assert queued.notes() == ("100", "100") and queued.backend.probe(up, now()) is Effect.PRESENT
    assert queued.backend.apply(up, now()).outcome is Outcome.ALREADY
    queued.train(100.0)
    queued.says(RESERVED, EVICTED)
    queued.train(None)
    assert "taken back" in queued.backend.finish(now())[0] and queued.notes() == (None, None)


def test_without_its_manifest_a_boost_is_refused_and_nothing_is_written(queued: Queued) -> None:
    queued.cluster._delete(BINDING, {})
    found = queued.train(0.0)

    def refused() -> Any:  # the authorizer hears of a binding that went a moment later
        receipt = queued.backend.apply(wish(found, 100.0, 0.0), queued.cluster.now())
        return receipt if "forbidden" in receipt.detail else None

    receipt = queued.cluster.soon(refused)
    assert receipt.outcome is Outcome.FAILED and queued.notes() == (None, None)
