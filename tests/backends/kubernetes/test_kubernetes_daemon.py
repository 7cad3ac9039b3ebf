"""Two whole daemons on a real API server, as the service account that the manifests make: one story, every permission counted.

Load rises and the service grows; an important job waits, the running one gives a checkpoint and is evicted; a GPU is lost and
its node cordoned; the leader is killed and the other one takes over.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from audit import asked
from cluster_stage import DEPLOYMENTS, JOBS, NODES, ClusterStage, real
from daemon_stage import Daemons, Load, Owners, leader, wait
from kubernetes_stage import job
from manifests import apply, documents, service_account_token
from real_control_plane import RealApiServer
from test_kubernetes_permissions import grants

from aiops import codec
from aiops.action import Cordon, EntryState, HoldCapacity, Preempt, RequestCheckpoint, ScaleService
from aiops.model import JobState
from aiops.settings import Settings
from aiops.snapshot import Decided
from aiops.store.opening import open_store

DEPLOY = Path(__file__).parents[3] / "deploy" / "kubernetes"
GRANTED = ("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
_ABSENT = ("leaderworkerset.x-k8s.io", "kueue.x-k8s.io", "autoscaling.x-k8s.io")
"""Kinds that this cluster does not have."""
_UNTOLD = {("apps", "statefulsets", "get"), ("apps", "statefulsets", "patch"), ("", "podtemplates", "create")}
_UNTOLD |= {("", "configmaps", "patch")}
"""Of actions that the story does not have: scaling a StatefulSet, growing a pool by request, releasing a hold."""
US = "system:serviceaccount:aiops:aiops"


class Story:
    """The cluster, what happens to it, and the daemons that look after it."""

    def __init__(self, cluster: ClusterStage, load: Load, daemons: Daemons) -> None:
        self.cluster, self.load, self.daemons = cluster, load, daemons
        self.store = open_store(daemons.url, Settings(data_dir=daemons.directory))

    def confirmed(self, kind: type) -> list[Any]:
        """Entries of the ledger about actions of this kind whose effect was seen."""
        rows = self.store.entries(0.0)
        mine = [row for row in rows if isinstance(row.admission.decision.action, kind)]
        return [row for row in mine if row.state is EntryState.CONFIRMED]

    def told(self) -> list[str]:
        """The newest notes of the policies: why they did nothing."""
        ids = self.store.cycles(self.cluster.now() - 60.0, self.cluster.now())
        notes = [note for id in ids for note in codec.decode(Decided, self.store.cycle(id)[1]).notes][-6:]
        pods = self.cluster.rest.get("/api/v1/pods")["items"]
        placed = sorted(f"{row['metadata']['name']} {row['spec'].get('nodeName')} {row['status']['phase']}" for row in pods)
        return [*notes, *placed]

    def wait(self, what: str, holds: Callable[[], Any], bound_s: float) -> Any:
        """What `holds` gives once it is anything; on failure, what the policies say."""
        return wait(what, holds, bound_s, self.told)

    def leads(self, name: str) -> bool:
        """Whether the Lease names the daemon with this process."""
        found = leader(self.cluster)
        return found is not None and str(self.daemons.running[name].pid) in found[0]


@pytest.fixture
def manifests_applied(control_plane: RealApiServer | None, tmp_path: Path) -> Iterator[tuple[ClusterStage, str, RealApiServer]]:
    if control_plane is None:
        pytest.skip("KUBE_ASSETS names no folder with a whole control plane")
    with real(control_plane, tmp_path) as cluster:
        rows = documents(DEPLOY / "aiops.yaml", DEPLOY / "act.yaml")
        apply(cluster.rest, [row for row in rows if row["kind"] in GRANTED])
        cluster._delete("/apis/coordination.k8s.io/v1/namespaces/aiops/leases/aiops", {})
        yield cluster, service_account_token(cluster.rest), control_plane


@pytest.mark.real
@pytest.mark.slow
def test_the_story_of_a_cluster_with_two_daemons(
    manifests_applied: tuple[ClusterStage, str, RealApiServer], postgres: Any, tmp_path: Path
) -> None:
    cluster, token, server = manifests_applied
    config = server.kubeconfig(tmp_path / "service-account.kubeconfig", token)
    with ExitStack() as stack:
        load = stack.enter_context(Load())
        stack.enter_context(Owners(cluster))
        backend = {"kubeconfig": str(config), "pools": {"default": {"min": 0, "max": 5}}}
        daemons = stack.enter_context(Daemons(tmp_path, postgres.fresh(), load.port, backend))
        open_store(daemons.url, Settings(data_dir=tmp_path)).close()
        daemons.start("one")
        story = Story(cluster, load, daemons)
        stack.callback(story.store.close)
        wait("the first daemon leads", lambda: story.leads("one"), 120.0)
        daemons.start("two")
        play(story)
    codes = {(row.row, row.name) for row in asked(server.directory, US) if row.code in (401, 403)}
    assert not codes, "a permission is missing in deploy/kubernetes"
    used = {row.row for row in asked(server.directory, US)}
    assert {("", "pods/eviction", "create"), ("apps", "deployments", "patch"), ("", "nodes", "patch")} <= used
    spare = {row for row in grants("aiops.yaml", "act.yaml") - used if row[0] not in _ABSENT}
    assert spare <= _UNTOLD, "a permission that nothing uses"


def play(story: Story) -> None:
    """Each sentence of the story, waited for."""
    cluster, load = story.cluster, story.load
    load.value = 28.0
    story.wait("the service grows", lambda: cluster.rest.get(f"{DEPLOYMENTS}/web")["spec"]["replicas"] == 3, 60.0)
    preempted(story)
    cordoned(story)
    taken_over(story)


def preempted(story: Story) -> None:
    """An important job of more than two nodes' worth of GPUs waits; `train` stands in its way, with an old checkpoint."""
    cluster = story.cluster
    cluster._delete(f"{JOBS}/train", {"propagationPolicy": "Background"})
    story.wait("the small job is gone", lambda: "default/train" not in states(cluster), 60.0)
    cluster.rest.create(JOBS, job(pods=2, gpus=3))
    before = cluster.running()
    cluster.proven(before, id="own", age_s=1000.0)
    body = {"metadata": {"name": "important"}, "value": 1000}
    cluster._delete("/apis/scheduling.k8s.io/v1/priorityclasses/important", {})
    cluster.rest.create("/apis/scheduling.k8s.io/v1/priorityclasses", {**body, "preemptionPolicy": "Never"})
    wish = job("urgent", pods=3, gpus=6)
    wish["spec"]["template"]["spec"]["priorityClassName"] = "important"
    cluster.rest.create(JOBS, wish)
    story.wait("a checkpoint is asked for", lambda: story.confirmed(RequestCheckpoint), 60.0)
    story.wait("the victim is stopped", lambda: story.confirmed(Preempt), 90.0)
    story.wait(
        "the important job runs", lambda: (row := states(cluster).get("default/urgent")) and row is JobState.RUNNING, 25.0
    )
    cluster._delete(f"{JOBS}/urgent", {"propagationPolicy": "Background"})
    cluster.running()


def states(cluster: ClusterStage) -> dict[str, JobState]:
    return {row.id: row.state for row in cluster.backend.observe(cluster.now()).jobs}


def cordoned(story: Story) -> None:
    """The device plugin of n2 reports 7 of 8 GPUs."""
    cluster = story.cluster
    cluster.rest.patch(f"{NODES}/n2/status", {"status": {"allocatable": {"nvidia.com/gpu": "7"}}})
    story.wait("n2 is cordoned", lambda: cluster.rest.get(f"{NODES}/n2")["spec"].get("unschedulable"), 90.0)
    assert "aiops repair" in cluster.rest.get(f"{NODES}/n2")["metadata"]["annotations"]["aiops.io/reason"]
    story.wait("the cordon is confirmed", lambda: story.confirmed(Cordon), 60.0)


def taken_over(story: Story) -> None:
    """kill -9 of the leader: the other takes over, acts, and keeps the lease; SIGSTOP of that one: back to the first."""
    cluster, daemons, load = story.cluster, story.daemons, story.load
    first = leader(cluster)
    daemons.signal("one", signal.SIGKILL)
    story.wait("the second leads", lambda: story.leads("two"), 40.0)
    daemons.start("one")
    load.value = 38.0
    story.wait("the second scales", lambda: cluster.rest.get(f"{DEPLOYMENTS}/web")["spec"]["replicas"] == 4, 90.0)
    now = leader(cluster)
    assert first is not None and now is not None and now[1] == first[1] + 1 and story.leads("two")
    daemons.signal("two", signal.SIGSTOP)
    story.wait("the first leads again", lambda: story.leads("one"), 60.0)
    daemons.signal("two", signal.SIGCONT)
    time.sleep(5.0)  # the sleeper is awake, and must not write its old epoch over the newer one
    after = leader(cluster)
    assert after is not None and after[1] == now[1] + 1 and story.leads("one")
    done = [row.admission.id for row in (*story.confirmed(ScaleService), *story.confirmed(HoldCapacity))]
    assert len(done) == len(set(done))
