"""Holds: what is bound to an owner is kept from others by placeholder pods, whole or not at all, and ends by itself."""

from dataclasses import replace

import pytest
from cluster_stage import ACCOUNT, JOBS, PLACEHOLDERS, ClusterStage
from kubernetes_stage import job

from aiops.action import ConfirmHold, Effect, HoldCapacity, Outcome, ReleaseHold
from aiops.backends.kubernetes.connection import Refused
from aiops.testing.backend import admit

HOLD = HoldCapacity(hold="preempt-default/big", owner="default/big", nodes=("n1", "n2"), gpus=9, ttl_s=30.0, fence=7)


def apply(cluster: ClusterStage, wish: object, id: str = "a1") -> Outcome:
    return cluster.backend.apply(admit(wish, id=id), cluster.now()).outcome  # type: ignore[arg-type]


def test_a_hold_binds_gpus_on_its_nodes_and_is_seen(cluster: ClusterStage) -> None:
    assert cluster.backend.probe(admit(HOLD), cluster.now()) is Effect.ABSENT
    assert apply(cluster, HOLD) is Outcome.DONE
    assert cluster.backend.probe(admit(HOLD), cluster.now()) is Effect.PRESENT
    cluster.soon(lambda: cluster.placed() == ["n1", "n2"])
    rows = {row["spec"]["nodeName"]: row["spec"]["containers"][0]["resources"]["limits"] for row in cluster.placeholders()}
    assert rows == {"n1": {"nvidia.com/gpu": "5"}, "n2": {"nvidia.com/gpu": "4"}}  # 9 over 2 nodes
    seen = cluster.until(lambda c: c.holds == (HOLD.hold,))
    assert not [job for job in seen.jobs if "hold" in job.id]  # a placeholder is a promise, not work


def test_a_repeat_is_already_also_after_a_restart_and_after_the_hold_moved_on(cluster: ClusterStage) -> None:
    assert [apply(cluster, HOLD), apply(cluster, HOLD)] == [Outcome.DONE, Outcome.ALREADY]
    cluster.restart()
    assert apply(cluster, HOLD) is Outcome.ALREADY
    assert apply(cluster, ReleaseHold(hold=HOLD.hold, fence=7), "a2") is Outcome.DONE
    assert apply(cluster, HOLD) is Outcome.ALREADY  # and it does not come back
    assert cluster.soon(lambda: not cluster.placeholders())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"fence": 7}, "the fence must grow"),
        ({"fence": 3}, "a late grant"),
        ({"owner": "default/other", "fence": 8}, "it is another's"),
        ({"hold": "other", "gpus": 8}, "n1 and n2 have 3 and 4 GPUs that no hold binds"),
        ({"hold": "other", "gpus": 1, "nodes": ("n1", "gone")}, "a node is not there"),
        ({"hold": "other", "gpus": 1, "nodes": ()}, "empty means nothing"),
        ({"hold": "other", "gpus": 1, "nodes": ("n2", "n2")}, "a node named twice"),
        ({"hold": "other", "gpus": 1, "nodes": ("n2",), "cpu_cores": 65.0}, "all dimensions or none: 64 cores"),
        ({"hold": "other", "gpus": 1, "nodes": ("n2",), "bandwidth_bytes_per_s": {"leaf": 61.0}}, "the link has 60"),
    ],
)
def test_what_cannot_be_bound_whole_is_not_bound_at_all(tmp_path: object, change: dict[str, object], why: str) -> None:
    from pathlib import Path

    from cluster_stage import in_process

    with in_process(Path(str(tmp_path))) as cluster:
        assert apply(cluster, HOLD) is Outcome.DONE
        before = cluster.rest.get(ACCOUNT)
        receipt = cluster.backend.apply(admit(replace(HOLD, **change), id="a2"), cluster.now())  # type: ignore[arg-type]
        assert receipt.outcome is Outcome.STALE, why
        assert cluster.rest.get(ACCOUNT) == before and len(cluster.placeholders()) == 2


def test_a_confirmed_hold_has_no_term_and_a_late_confirmation_is_refused(cluster: ClusterStage) -> None:
    assert apply(cluster, HOLD) is Outcome.DONE
    assert apply(cluster, ConfirmHold(hold=HOLD.hold, fence=6), "a2") is Outcome.STALE
    assert apply(cluster, ConfirmHold(hold=HOLD.hold, fence=7), "a3") is Outcome.DONE
    cluster.soon(lambda: cluster.placed() == ["n1", "n2"])
    assert all("activeDeadlineSeconds" not in row["spec"] for row in cluster.placeholders())
    later = cluster.now() + 3600.0
    assert cluster.backend.observe(later).holds == (HOLD.hold,)
    assert apply(cluster, ReleaseHold(hold=HOLD.hold, fence=7), "a4") is Outcome.DONE
    assert cluster.soon(lambda: not cluster.placeholders()) and cluster.backend.observe(cluster.now()).holds == ()


def test_a_hold_ends_by_its_term_without_any_daemon(cluster: ClusterStage) -> None:
    short = replace(HOLD, ttl_s=1.0)
    assert apply(cluster, short) is Outcome.DONE
    assert [row["spec"]["activeDeadlineSeconds"] for row in cluster.placeholders()] == [1, 1]
    assert cluster.backend.observe(cluster.now() + 2.0).holds == ()
    assert cluster.soon(lambda: cluster.placeholders() == [] or cluster.rest.get(PLACEHOLDERS) is None)
    late = cluster.backend.apply(admit(ConfirmHold(hold=HOLD.hold, fence=7), id="a2"), cluster.now() + 2.0)
    assert late.outcome is Outcome.STALE


def test_a_renewal_by_the_same_owner_takes_the_next_fence_and_leaves_one_set_of_placeholders(cluster: ClusterStage) -> None:
    assert apply(cluster, HOLD) is Outcome.DONE
    assert apply(cluster, replace(HOLD, fence=8), "a2") is Outcome.DONE
    cluster.soon(lambda: cluster.placed() == ["n1", "n2"] and len(cluster.placeholders()) == 2)
    assert apply(cluster, ReleaseHold(hold=HOLD.hold, fence=7), "a3") is Outcome.STALE  # a late release of the old grant


def test_a_hold_half_made_when_the_daemon_died_is_seen_as_absent_and_completed(cluster: ClusterStage) -> None:
    assert apply(cluster, HOLD) is Outcome.DONE
    gone = cluster.placeholders()[0]["metadata"]["name"]
    cluster._delete(f"{PLACEHOLDERS}/{gone}", {"gracePeriodSeconds": 0})
    cluster.soon(lambda: len(cluster.placeholders()) == 1)
    cluster.restart()
    assert cluster.backend.probe(admit(HOLD), cluster.now()) is Effect.ABSENT
    assert apply(cluster, HOLD) is Outcome.ALREADY
    assert cluster.backend.probe(admit(HOLD), cluster.now()) is Effect.PRESENT
    assert cluster.soon(lambda: len(cluster.placed()) == 2)


def test_without_its_priority_class_a_hold_says_so(cluster: ClusterStage) -> None:
    cluster._delete("/apis/scheduling.k8s.io/v1/priorityclasses/aiops-hold", {})
    receipt = cluster.backend.apply(admit(HOLD), cluster.now())
    assert receipt.outcome is Outcome.UNKNOWN and "aiops-hold" in receipt.detail
    assert cluster.backend.probe(admit(HOLD), cluster.now()) is Effect.ABSENT


def test_an_account_that_is_not_ours_makes_the_picture_unreadable(cluster: ClusterStage) -> None:
    from aiops.errors import Unreadable

    body = {"metadata": {"name": "aiops-account"}, "data": {"account.json": "{not json"}}
    cluster.rest.create("/api/v1/namespaces/aiops/configmaps", body)
    with pytest.raises(Unreadable, match="aiops-account"):
        cluster.backend.observe(cluster.now())
    assert apply(cluster, HOLD) is Outcome.UNKNOWN
    with pytest.raises(Refused):
        cluster.rest.get(f"{PLACEHOLDERS}/none")
    assert not cluster.placeholders()


def waits(cluster: ClusterStage, pods: int, gpus: int) -> None:
    """The owner of the hold comes, and finds every room taken by its own placeholders."""
    cluster.rest.create(JOBS, job("big", pods=pods, gpus=gpus))
    cluster.until(lambda c: any(row.id == "default/big" and row.reason for row in c.jobs))


def test_what_is_held_is_left_to_the_owner_as_soon_as_it_waits_for_it(cluster: ClusterStage) -> None:
    """Seen in a whole run: the placeholder kept its own owner off until the hold's term was over."""
    wish = replace(HOLD, nodes=("n1",), gpus=8)
    cluster.rest.patch("/api/v1/nodes/n2", {"spec": {"unschedulable": True}})
    assert apply(cluster, wish) is Outcome.DONE
    cluster.soon(lambda: cluster.placed() == ["n1"])
    assert cluster.backend.finish(cluster.now()) == (), "nobody waits for it yet"
    waits(cluster, pods=1, gpus=8)
    assert "left to default/big" in cluster.soon(lambda: cluster.backend.finish(cluster.now()))[0]
    assert cluster.running("default/big").nodes == ("n1",)
    assert cluster.backend.probe(admit(wish), cluster.now()) is Effect.PRESENT
    assert apply(cluster, wish) is Outcome.ALREADY and not cluster.placeholders(), "and it does not come back"
    assert cluster.backend.observe(cluster.now()).holds == (HOLD.hold,), "others may not hold it twice"
    assert apply(cluster, ReleaseHold(hold=HOLD.hold, fence=7), "a2") is Outcome.DONE


def test_a_hold_whose_room_has_not_come_yet_is_kept(cluster: ClusterStage) -> None:
    """The victims still run: what has come already would go to others, were it left now."""
    found = cluster.running()
    assert apply(cluster, replace(HOLD, nodes=("n0", "n1"), gpus=16)) is Outcome.DONE
    cluster.soon(lambda: cluster.placed() == ["n1"])
    waits(cluster, pods=2, gpus=8)
    assert cluster.backend.finish(cluster.now()) == () and cluster.placed() == ["n1"]
    assert cluster.running().run_id == found.run_id
