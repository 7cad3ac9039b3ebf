"""Pools that are grown ahead of need, and bandwidth that is accounted: what is promised, to whom, and within what."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cluster_stage import ClusterStage
from crds import PROVISIONING_REQUEST

from aiops.action import (
    Action,
    Effect,
    LimitBandwidth,
    Outcome,
    ReleaseBandwidth,
    ReserveBandwidth,
    Rollback,
    ScalePool,
)
from aiops.testing.backend import admit

_REQUESTS = "/apis/autoscaling.x-k8s.io/v1/namespaces/aiops/provisioningrequests"
GROW = ScalePool(pool="default", version="3", nodes=5, was=3)
LEAF = ReserveBandwidth(link="leaf", owner="job/a", bytes_per_s=50.0)


def apply(cluster: ClusterStage, wish: Action, id: str = "a1") -> Outcome:
    return cluster.backend.apply(admit(wish, id=id), cluster.now()).outcome


def test_a_pool_grows_by_placeholders_of_a_whole_node_each(cluster: ClusterStage) -> None:
    for name in ("n0", "n1", "n2"):  # the nodes that there are stay out of it: what is asked for are further ones
        cluster.rest.patch(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True}})
    pool = cluster.until(lambda c: len(c.nodes) == 3).pools[0]
    assert (pool.nodes, pool.min_nodes, pool.max_nodes, pool.version) == (3, 0, 5, "3")
    assert apply(cluster, GROW) is Outcome.DONE
    rows = cluster.placeholders()
    asked = [row["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for row in rows]
    assert asked == ["8", "8"] and {row["spec"]["priority"] for row in rows} == {-10}
    assert cluster.backend.probe(admit(GROW), cluster.now()) is Effect.PRESENT
    cluster.add_node("n3")  # as an autoscaler would
    cluster.soon(lambda: cluster.placed() == ["n3"])
    assert [apply(cluster, GROW), apply(cluster, replace(GROW, version="4", was=4), "a2")] == [Outcome.ALREADY, Outcome.DONE]
    cluster.soon(lambda: len(cluster.placeholders()) == 1)  # one node is still lacking


def asking(cluster: ClusterStage) -> None:
    """A cluster whose autoscaler takes ProvisioningRequests."""
    if not hasattr(cluster, "server"):
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        if not cluster._exists(f"{path}/provisioningrequests.autoscaling.x-k8s.io"):
            cluster.rest.create(path, PROVISIONING_REQUEST)
        cluster.soon(lambda: cluster._exists(_REQUESTS))
    cluster.restart(provisioning_class="best-effort-atomic-scale-up.autoscaling.x-k8s.io")


def test_where_a_class_is_named_nodes_are_asked_for_by_one_request(cluster: ClusterStage) -> None:
    asking(cluster)
    assert cluster.backend.probe(admit(GROW), cluster.now()) is Effect.ABSENT
    assert [apply(cluster, GROW), apply(cluster, GROW)] == [Outcome.DONE, Outcome.ALREADY]
    assert cluster.placeholders() == [] and cluster.backend.probe(admit(GROW), cluster.now()) is Effect.PRESENT
    rows = cluster.rest.get(_REQUESTS)["items"]
    name = rows[0]["metadata"]["name"]
    assert len(rows) == 1 and rows[0]["spec"]["podSets"] == [{"podTemplateRef": {"name": name}, "count": 2}]
    made = cluster.rest.get(f"/api/v1/namespaces/aiops/podtemplates/{name}")["template"]["spec"]
    assert made["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    for path in (_REQUESTS, "/api/v1/namespaces/aiops/podtemplates"):
        cluster._delete(f"{path}/{name}", {})


def told(cluster: ClusterStage, name: str, *conditions: tuple[str, str, str]) -> None:
    """What the autoscaler says of a request: type, status and reason of each condition, as it writes them."""
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    rows = [
        {"type": kind, "status": status, "reason": reason, "message": f"{reason} it is", "lastTransitionTime": at}
        for kind, status, reason in conditions
    ]
    cluster.rest.patch(f"{_REQUESTS}/{name}/status", {"status": {"conditions": rows}})


ACCEPTED, SEARCHING = ("Accepted", "True", "Accepted"), ("Provisioned", "False", "CapacityIsNotFound")
PROVISIONED = ("Provisioned", "True", "CapacityIsFound")


def look(cluster: ClusterStage) -> tuple[Effect, Outcome]:
    """What a probe says, and then a repeat."""
    return cluster.backend.probe(admit(GROW), cluster.now()), apply(cluster, GROW)


def test_a_request_for_nodes_through_its_whole_life(cluster: ClusterStage) -> None:
    """Accepted, not found yet, provisioned, its booking over, its nodes there after all, and the request gone."""
    asking(cluster)
    there, gone = (Effect.PRESENT, Outcome.ALREADY), (Effect.ABSENT, Outcome.FAILED)
    assert apply(cluster, GROW) is Outcome.DONE
    (made,) = cluster.rest.get(_REQUESTS)["items"]
    name = made["metadata"]["name"]
    assert look(cluster) == there, "asked for"
    for said in ([ACCEPTED], [ACCEPTED, SEARCHING], [ACCEPTED, PROVISIONED]):
        told(cluster, name, *said)
        assert look(cluster) == there, said
    over = ("BookingExpired", "True", "CapacityReservationTimeExpired")
    told(cluster, name, ACCEPTED, PROVISIONED, over)
    assert look(cluster) == gone, "booked for nobody any more, and the nodes are not there"
    for node in ("n3", "n4"):
        cluster.add_node(node)
    assert look(cluster) == (Effect.PRESENT, Outcome.ALREADY), "the nodes came: what became of the request does not matter"
    cluster._delete(f"{_REQUESTS}/{name}", {})
    assert look(cluster) == (Effect.PRESENT, Outcome.ALREADY) and cluster.rest.get(_REQUESTS)["items"] == []
    cluster._delete(f"/api/v1/namespaces/aiops/podtemplates/{name}", {})


@pytest.mark.parametrize("void", ["Failed", "CapacityRevoked"])
def test_a_request_that_is_given_up_is_not_called_done_and_another_action_asks_anew(cluster: ClusterStage, void: str) -> None:
    asking(cluster)
    assert apply(cluster, GROW) is Outcome.DONE
    (made,) = cluster.rest.get(_REQUESTS)["items"]
    told(cluster, made["metadata"]["name"], ACCEPTED, (void, "True", "Expired"))
    receipt = cluster.backend.apply(admit(GROW), cluster.now())
    assert receipt.outcome is Outcome.FAILED and f"{void}: Expired it is" in receipt.detail
    assert cluster.backend.probe(admit(GROW), cluster.now()) is Effect.ABSENT
    assert apply(cluster, GROW, "a2") is Outcome.DONE
    assert cluster.backend.probe(admit(GROW, id="a2"), cluster.now()) is Effect.PRESENT
    rows = cluster.rest.get(_REQUESTS)["items"]
    assert len({row["metadata"]["name"] for row in rows}) == 2
    for row in rows:
        cluster._delete(f"{_REQUESTS}/{row['metadata']['name']}", {})
        cluster._delete(f"/api/v1/namespaces/aiops/podtemplates/{row['metadata']['name']}", {})


def test_a_request_that_somebody_deleted_is_absent_and_a_repeat_makes_it_again(cluster: ClusterStage) -> None:
    asking(cluster)
    assert apply(cluster, GROW) is Outcome.DONE
    (made,) = cluster.rest.get(_REQUESTS)["items"]
    name = made["metadata"]["name"]
    cluster._delete(f"{_REQUESTS}/{name}", {})
    assert look(cluster) == (Effect.ABSENT, Outcome.ALREADY)
    assert [row["metadata"]["name"] for row in cluster.rest.get(_REQUESTS)["items"]] == [name]
    cluster._delete(f"{_REQUESTS}/{name}", {})
    cluster._delete(f"/api/v1/namespaces/aiops/podtemplates/{name}", {})


def test_real_work_pushes_a_placeholder_off_at_once(cluster: ClusterStage) -> None:
    assert apply(cluster, GROW) is Outcome.DONE
    cluster.soon(lambda: len(cluster.placed()) >= 1)
    taken = cluster.placed()[0]
    spec = {
        "containers": [{"name": "c", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "8"}}}],
        "nodeSelector": {"kubernetes.io/hostname": taken},
    }
    cluster.rest.create("/api/v1/namespaces/default/pods", {"metadata": {"name": "work"}, "spec": spec})
    path = "/api/v1/namespaces/default/pods/work"
    assert cluster.soon(lambda: cluster.rest.get(path)["spec"].get("nodeName")) == taken


def test_a_pool_request_is_taken_back_by_its_rollback(cluster: ClusterStage) -> None:
    assert apply(cluster, GROW) is Outcome.DONE
    undo = Rollback(of="a1", action=ScalePool(pool="default", version="3", nodes=3, was=5))
    assert apply(cluster, undo, "a2") is Outcome.DONE
    assert cluster.soon(lambda: not cluster.placeholders())


@pytest.mark.parametrize(
    ("change", "outcome", "why"),
    [
        ({"pool": "other"}, Outcome.FAILED, "no bounds are declared"),
        ({"was": 2, "version": "2"}, Outcome.STALE, "the pool has 3 nodes"),
        ({"nodes": 6}, Outcome.FAILED, "above its greatest size"),
        ({"nodes": 2, "remove": ("n0",)}, Outcome.FAILED, "an autoscaler's business"),
    ],
)
def test_a_pool_request_that_may_not_be_is_refused(
    cluster: ClusterStage, change: dict[str, Any], outcome: Outcome, why: str
) -> None:
    assert apply(cluster, replace(GROW, **change)) is outcome, why
    assert not cluster.placeholders()


def test_a_guarantee_is_accounted_within_the_link_and_its_parents(cluster: ClusterStage) -> None:
    assert [apply(cluster, LEAF), apply(cluster, LEAF)] == [Outcome.DONE, Outcome.ALREADY]
    assert cluster.backend.probe(admit(LEAF), cluster.now()) is Effect.PRESENT
    assert apply(cluster, replace(LEAF, owner="job/b", bytes_per_s=11.0), "a2") is Outcome.STALE  # the leaf has 60
    upper = ReserveBandwidth(link="fabric", owner="job/b", bytes_per_s=51.0)
    assert apply(cluster, upper, "a3") is Outcome.STALE  # the fabric has 100, the leaf's 50 included
    assert apply(cluster, replace(upper, bytes_per_s=50.0), "a4") is Outcome.DONE
    assert apply(cluster, replace(LEAF, bytes_per_s=55.0), "a9") is Outcome.STALE  # the leaf has room, the fabric above has not
    assert apply(cluster, replace(LEAF, bytes_per_s=40.0), "a5") is Outcome.DONE  # its own old rate does not count
    assert apply(cluster, ReleaseBandwidth(link="leaf", owner="job/a"), "a6") is Outcome.DONE
    assert apply(cluster, ReleaseBandwidth(link="leaf", owner="job/a"), "a7") is Outcome.STALE
    assert apply(cluster, replace(LEAF, link="moon"), "a8") is Outcome.STALE


def test_a_cap_is_compared_with_what_it_was_and_lifted(cluster: ClusterStage) -> None:
    cap = LimitBandwidth(link="leaf", owner="job/noisy", bytes_per_s=10.0, was=None)
    assert apply(cluster, replace(cap, was=5.0)) is Outcome.STALE
    assert [apply(cluster, cap, "a2"), apply(cluster, cap, "a2")] == [Outcome.DONE, Outcome.ALREADY]
    lift = LimitBandwidth(link="leaf", owner="job/noisy", bytes_per_s=None, was=10.0)
    assert apply(cluster, Rollback(of="a2", action=lift), "a3") is Outcome.DONE
    assert apply(cluster, cap, "a2") is Outcome.ALREADY  # an old repeat does not bring it back
    cluster.restart()
    assert cluster.backend.probe(admit(cap, id="a2"), cluster.now()) is Effect.PRESENT


def test_somebody_faster_on_the_account_makes_it_stale(cluster: ClusterStage) -> None:
    assert apply(cluster, LEAF) is Outcome.DONE
    connection = cluster.backend._connected()
    real, rival = connection.get, {"metadata": {"annotations": {"touched": "yes"}}}

    def get(path: str, query: Any = None) -> Any:
        found = real(path, query)
        if path.endswith("aiops-account"):
            cluster.rest.patch(path, rival)
        return found

    connection.get = get  # type: ignore[method-assign]
    assert apply(cluster, replace(LEAF, owner="job/b", bytes_per_s=1.0), "a2") is Outcome.STALE
