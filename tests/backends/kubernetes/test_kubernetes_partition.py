"""Two whole daemons, and a network that stops between the leader and PostgreSQL, then between the leader and the API server.

The leader goes on running on its side. It must have stopped by its own clock before the other starts, the other must lead
within 20 s and do what is due, nothing may be done twice, and once the network is back one leads, with the newer epoch.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from cluster_stage import DEPLOYMENTS, ClusterStage
from daemon_stage import Daemons, Load, leader, wait

from aiops.action import Entry, EntryState, ScaleService
from aiops.settings import Settings
from aiops.store.opening import open_store

sys.path.insert(0, str(Path(__file__).parents[1]))
from partition import Passed, Proxy

TAKEOVER_S = 30.0  # 20 s is what is promised, and measured in docs/kubernetes.md; a busy CI machine may take longer
LEASES = "/leases/aiops"


@dataclass
class Cabled:
    """One daemon behind two cables of its own."""

    name: str
    daemons: Daemons
    database: Proxy
    api: Proxy

    @property
    def writes(self) -> list[Passed]:
        """What it changed on the API server; empty where that speaks TLS."""
        return self.api.passed

    def leads(self, cluster: ClusterStage) -> bool:
        found = leader(cluster)
        return found is not None and str(self.daemons.running[self.name].pid) in found[0]


class Pair:
    """Two daemons on one cluster and one database."""

    def __init__(self, cluster: ClusterStage, load: Load, both: tuple[Cabled, Cabled], entries: Any) -> None:
        self.cluster, self.load, self.entries = cluster, load, entries
        self.one, self.two = both

    def replicas(self) -> int:
        return int(self.cluster.rest.get(f"{DEPLOYMENTS}/web")["spec"]["replicas"])

    def scalings(self) -> list[Entry]:
        return [row for row in self.entries() if isinstance(row.admission.decision.action, ScaleService)]

    def wait_for(self, what: str, holds: Any, bound_s: float) -> float:
        started = time.monotonic()
        wait(what, holds, bound_s, lambda: "\n".join(c.daemons.log(c.name)[-1500:] for c in (self.one, self.two)))
        return time.monotonic() - started


def cabled(name: str, directory: Path, cluster: ClusterStage, database: tuple[Any, str], port: int, stack: ExitStack) -> Cabled:
    postgres, plain = database
    sql = stack.enter_context(Proxy(postgres.directory / ".s.PGSQL.5432"))
    config = orjson.loads(Path(cluster.section["kubeconfig"]).read_bytes())
    server = config["clusters"][0]["cluster"]["server"]
    head, _, upstream = server.rpartition(":")
    api = stack.enter_context(Proxy(int(upstream)))
    config["clusters"][0]["cluster"]["server"] = f"{head}:{api.port}"
    path = directory / f"{name}.kubeconfig"
    path.write_bytes(orjson.dumps(config))
    url = f"postgresql://postgres@127.0.0.1:{sql.port}/{plain}"
    backend = {"kubeconfig": str(path), "watch": 1.0}
    return Cabled(name, stack.enter_context(Daemons(directory, url, port, backend)), sql, api)


@pytest.fixture
def pair(cluster: ClusterStage, postgres: Any, tmp_path: Path) -> Iterator[Pair]:
    cluster._delete("/apis/coordination.k8s.io/v1/namespaces/aiops/leases/aiops", {})
    with ExitStack() as stack:
        load = stack.enter_context(Load())
        url = postgres.fresh()
        store = open_store(url, Settings(data_dir=tmp_path))
        stack.callback(store.close)
        plain = url.rpartition("?")[0].rpartition("/")[2]
        one, two = (cabled(name, tmp_path, cluster, (postgres, plain), load.port, stack) for name in ("one", "two"))
        both = Pair(cluster, load, (one, two), lambda: store.entries(0.0))
        one.daemons.start("one")
        both.wait_for("the first daemon leads", lambda: one.leads(cluster), 120.0)
        two.daemons.start("two")
        both.wait_for("the second stands by", lambda: "leadership" in two.daemons.log("two") or started(two), 120.0)
        yield both


def started(side: Cabled) -> bool:
    return "listening" in side.daemons.log(side.name) or "http" in side.daemons.log(side.name)


def test_a_leader_that_is_cut_off_stops_before_the_other_starts_and_nothing_is_done_twice(pair: Pair) -> None:
    """About 70 s: the lease has to run out, and whole daemons are started."""
    pair.load.value = 15.0
    pair.wait_for("the leader scales", lambda: pair.replicas() == 2, 30.0)
    cut(pair, pair.one, pair.two, pair.one.database, (28.0, 3))
    cut(pair, pair.two, pair.one, pair.two.api, (38.0, 4))
    pair.wait_for("each scaling is verified", lambda: confirmed(pair) == 3, 60.0)
    done = pair.scalings()
    notes = pair.cluster.rest.get(f"{DEPLOYMENTS}/web")["metadata"]["annotations"]["aiops.io/last-actions"].split()
    assert max(Counter(notes).values()) == 1 and set(notes) >= {row.admission.id for row in done}


def confirmed(pair: Pair) -> int:
    """How many scalings were seen to have happened; a cycle after the effect at the earliest."""
    return [row.state for row in pair.scalings()].count(EntryState.CONFIRMED)


def cut(pair: Pair, old: Cabled, new: Cabled, cable: Proxy, due: tuple[float, int]) -> None:
    """Cut one cable of the leader while something is due; the other does it; the cable heals and nothing changes back."""
    before = leader(pair.cluster)
    assert before is not None
    at = cable.cut()
    pair.load.value, replicas = due
    took_s = pair.wait_for("the other leads", lambda: new.leads(pair.cluster), TAKEOVER_S)
    pair.wait_for("it does what is due", lambda: pair.replicas() == replicas, 30.0)
    late = [row.at for row in old.writes if row.at > at]
    first = min((row.at for row in new.writes if row.at > at), default=float("inf"))
    assert not late or max(late) < first, "both wrote"
    cable.heal()
    pair.wait_for("the old one knows it", lambda: stands_by(old), 30.0)
    time.sleep(4.0)  # what was sent behind the cut arrives now
    after = leader(pair.cluster)
    assert after is not None and after[1] == before[1] + 1 and new.leads(pair.cluster) and pair.replicas() == replicas
    last_s = max(late, default=at) - at
    print(f"the other leads after {took_s:.1f} s; last write before {last_s:.1f} s, first after {first - at:.1f} s")


def stands_by(side: Cabled) -> bool:
    """Whether its newest word about the lead is that it has none; that changes once, whatever the reason for it becomes."""
    told = [line for line in side.daemons.log(side.name).splitlines() if '"event": "leadership"' in line]
    return bool(told) and orjson.loads(told[-1])["epoch"] is None
