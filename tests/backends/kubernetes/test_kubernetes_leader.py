"""Two daemons on one cluster: the store decides who leads, the Lease object shows it, and a late waker changes neither."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cluster_stage import ClusterStage
from kubernetes_stage import KubernetesStage

from aiops.backends.kubernetes import KubernetesBackend
from aiops.clock import ManualClock
from aiops.errors import Temporary
from aiops.leadership import Leadership
from aiops.ports import Lease
from aiops.settings import Settings
from aiops.store.opening import open_store
from aiops.testing.kubernetes import ApiServer
from aiops.testing.kubernetes.status import Refused

_LEASE = "/apis/coordination.k8s.io/v1/namespaces/aiops/leases/aiops"


def shown(cluster: ClusterStage) -> tuple[str, int]:
    spec = cluster.rest.get(_LEASE)["spec"]
    return spec["holderIdentity"], spec["leaseTransitions"]


def test_the_lease_object_names_the_leader_and_its_epoch(cluster: ClusterStage) -> None:
    cluster._delete(_LEASE, {})
    assert cluster.backend.announce("one", 4, cluster.now())
    assert shown(cluster) == ("one", 4)
    assert cluster.backend.announce("two", 5, cluster.now())
    assert shown(cluster) == ("two", 5)
    assert not cluster.backend.announce("one", 4, cluster.now()) and shown(cluster) == ("two", 5)
    cluster._delete(_LEASE, {})


def test_it_is_written_once_in_three_seconds_and_harms_nothing_when_refused(tmp_path: Path) -> None:
    with ApiServer() as server:
        stage = KubernetesStage(server, tmp_path)
        now = stage.now()
        assert all(stage.backend.announce("one", 1, now + i) for i in (0.0, 1.0, 2.0, 3.5))
        assert len(server.log) == 2
        server.faults.refuse = lambda verb, path: Refused(503, "ServiceUnavailable", "")
        assert not stage.backend.announce("one", 1, now + 60.0)
        stage.finish()


class Cut:
    """The store beyond a partition, as one daemon sees it."""

    def __init__(self, lease: Lease) -> None:
        self.lease, self.cut = lease, False

    def acquire(self, holder: str, now: float, ttl_s: float) -> int | None:
        if self.cut:
            raise Temporary("no route to the database")
        return self.lease.acquire(holder, now, ttl_s)

    def epoch(self) -> int:
        return self.lease.epoch()

    def release(self, holder: str) -> None:
        self.lease.release(holder)


def test_behind_a_partition_the_old_leader_stops_before_the_new_one_begins(cluster: ClusterStage, tmp_path: Path) -> None:
    cluster._delete(_LEASE, {})
    clock, store = ManualClock(1000.0), open_store(None, Settings(data_dir=tmp_path))
    cut = Cut(store)
    old, new = Leadership(cut, clock, "old"), Leadership(store, clock, "new")
    assert old.renew() == 1 and new.renew() is None
    assert cluster.backend.announce("old", 1, cluster.now())
    cut.cut = True
    both = []
    for _ in range(20):
        clock.advance(1.0)
        old.renew()
        new.renew()
        both.append(old.leads() and new.leads())
    assert not any(both) and not old.leads() and new.leads() and new.epoch == 2
    other = KubernetesBackend.from_settings(cluster.section, "test")
    assert other.announce("new", 2, cluster.now())
    assert not cluster.backend.announce("old", 1, cluster.now() + 60.0)  # it can still reach the API server
    assert shown(cluster) == ("new", 2)
    other.close()
    store.close()
    cluster._delete(_LEASE, {})


_DAEMON = """
import sys, time
from aiops.backends.kubernetes import KubernetesBackend
from aiops.clock import SystemClock
from aiops.leadership import Leadership
from pathlib import Path
from aiops.settings import Settings
from aiops.store.opening import open_store
name, url, kubeconfig = sys.argv[1:]
clock, store = SystemClock(), open_store(url, Settings(data_dir=Path(kubeconfig).parent))
backend = KubernetesBackend.from_settings({"kubeconfig": kubeconfig}, "test")
leadership = Leadership(store, clock, name)
while True:
    leadership.renew()
    if leadership.leads():
        backend.announce(name, leadership.epoch, clock.now())
    print(name, leadership.leads(), flush=True)
    time.sleep(0.5)
"""


def test_a_leader_stopped_by_a_signal_is_replaced_and_knows_it_when_it_wakes(postgres: "object", tmp_path: Path) -> None:
    """Two processes, a lease in PostgreSQL, SIGSTOP for longer than its term (about 25 s)."""
    url = postgres.fresh()  # type: ignore[attr-defined]
    open_store(url, Settings(data_dir=tmp_path)).close()
    with ApiServer() as server:
        config = server.kubeconfig(tmp_path / "kubeconfig")
        command = [sys.executable, "-c", _DAEMON]
        logs = {name: tmp_path / f"{name}.log" for name in ("old", "new")}
        running: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for name in ("old", "new"):
                with logs[name].open("wb") as log:
                    running[name] = subprocess.Popen([*command, name, url, str(config)], stdout=log, stderr=log)
                wait(lambda name=name: f"{name} {name == 'old'}" in logs[name].read_text(), 30.0)
            wait(lambda: holder(server) == ("old", 1), 10.0)
            os.kill(running["old"].pid, signal.SIGSTOP)
            wait(lambda: holder(server) == ("new", 2), 40.0)
            os.kill(running["old"].pid, signal.SIGCONT)
            wait(lambda: logs["old"].read_text().endswith("old False\nold False\n"), 20.0)
            assert holder(server) == ("new", 2) and "new True" in logs["new"].read_text().splitlines()[-1]
        finally:
            for process in running.values():
                process.kill()
                process.wait()


def holder(server: ApiServer) -> tuple[str, int] | None:
    rows = server.store.all(server.resource("leases"), "aiops")
    return (rows[0]["spec"]["holderIdentity"], rows[0]["spec"]["leaseTransitions"]) if rows else None


def wait(holds: "object", bound_s: float) -> None:
    deadline = time.monotonic() + bound_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.1)
