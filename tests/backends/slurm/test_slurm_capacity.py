"""Holds, bandwidth and power on a real slurmctld; and the whole story: hold, preempt with checkpoint, start, release."""

from dataclasses import replace

import pytest
from slurm_server import SlurmServer, wait_for
from slurm_stage import SlurmStage
from test_slurm_actions import apply, checkpointed, preempt

from aiops.action import (
    ConfirmHold,
    Effect,
    HoldCapacity,
    Outcome,
    ReleaseBandwidth,
    ReleaseHold,
    ReserveBandwidth,
    Rollback,
    ScalePool,
)
from aiops.model import NodeState, Pool
from aiops.testing.backend import admit

pytestmark = pytest.mark.real
GBPS = 125e6


def hold(stage: SlurmStage, **changes: object) -> HoldCapacity:
    plain = HoldCapacity(hold="peak", owner=f"user/{stage.server.user}", nodes=("gpu3",), gpus=8, ttl_s=60.0, fence=1)
    return replace(plain, **changes)


def test_a_hold_is_a_reservation_that_ends_by_itself(slurm: SlurmStage) -> None:
    wish = hold(slurm, ttl_s=3.0, bandwidth_bytes_per_s={"net_gbps": 20 * GBPS})
    assert slurm.backend.probe(admit(wish), slurm.now()) is Effect.ABSENT
    assert apply(slurm, wish) is Outcome.DONE
    shown = slurm.server.run("scontrol", "-o", "show", "res").stdout
    assert "ReservationName=aiops-h-peak-f1" in shown and "Nodes=gpu3" in shown and "net_gbps:20" in shown
    assert slurm.observe().holds == ("aiops-h-peak-f1",)
    assert slurm.backend.probe(admit(wish), slurm.now()) is Effect.PRESENT
    assert apply(slurm, wish) is Outcome.ALREADY
    slurm.until(lambda cluster: cluster.holds == ())


def test_a_held_node_is_its_owners_and_nobody_elses(slurm: SlurmStage) -> None:
    assert apply(slurm, hold(slurm)) is Outcome.DONE
    assert apply(slurm, hold(slurm, hold="other"), "a2") is Outcome.STALE
    assert apply(slurm, hold(slurm, hold="other", nodes=("gpu2", "gpu3")), "a3") is Outcome.STALE, "all nodes or none"
    assert slurm.observe().holds == ("aiops-h-peak-f1",)


def test_all_dimensions_or_none(slurm: SlurmStage) -> None:
    too_much = hold(slurm, bandwidth_bytes_per_s={"net_gbps": 1000 * GBPS})
    assert apply(slurm, too_much) in (Outcome.FAILED, Outcome.STALE)
    assert slurm.observe().holds == (), "no nodes without the bandwidth"
    assert apply(slurm, hold(slurm, nodes=("gpu9",)), "a2") is Outcome.STALE
    assert apply(slurm, hold(slurm, gpus=9), "a3") is Outcome.STALE
    assert apply(slurm, hold(slurm, nodes=()), "a4") is Outcome.FAILED


def test_confirm_needs_the_fence_and_makes_it_last(slurm: SlurmStage) -> None:
    apply(slurm, hold(slurm, fence=3))
    assert apply(slurm, ConfirmHold(hold="peak", fence=2), "a2") is Outcome.STALE
    confirm = ConfirmHold(hold="peak", fence=3)
    assert slurm.backend.probe(admit(confirm, id="a3"), slurm.now()) is Effect.ABSENT
    assert apply(slurm, confirm, "a3") is Outcome.DONE
    assert "Duration=365-00:00:00" in slurm.server.run("scontrol", "-o", "show", "res").stdout
    assert apply(slurm, ReleaseHold(hold="peak", fence=2), "a4") is Outcome.STALE
    assert apply(slurm, ReleaseHold(hold="peak", fence=3), "a5") is Outcome.DONE
    assert slurm.observe().holds == ()
    assert apply(slurm, ReleaseHold(hold="peak", fence=3), "a6") is Outcome.STALE


def test_an_advance_hold_starts_later(slurm: SlurmStage) -> None:
    assert apply(slurm, hold(slurm, starts_at=slurm.now() + 3600)) is Outcome.DONE
    assert "State=INACTIVE" in slurm.server.run("scontrol", "-o", "show", "res").stdout


def test_bandwidth_is_a_share_of_licences_rounded_up(slurm: SlurmStage) -> None:
    wish = ReserveBandwidth(link="net_gbps", owner=f"user/{slurm.server.user}", bytes_per_s=19.2 * GBPS)
    assert apply(slurm, wish) is Outcome.DONE
    link = next(link for link in slurm.observe().links if link.name == "net_gbps")
    assert link.used_bytes_per_s == 20 * GBPS
    assert apply(slurm, replace(wish, bytes_per_s=30 * GBPS), "a2") is Outcome.DONE, "an absolute value, not one more"
    assert next(link for link in slurm.observe().links if link.name == "net_gbps").used_bytes_per_s == 30 * GBPS
    assert apply(slurm, replace(wish, bytes_per_s=1000 * GBPS), "a3") in (Outcome.FAILED, Outcome.STALE)
    give = ReleaseBandwidth(link="net_gbps", owner=wish.owner)
    assert apply(slurm, Rollback(of="a1", action=give), "a4") is Outcome.DONE
    assert next(link for link in slurm.observe().links if link.name == "net_gbps").used_bytes_per_s == 0
    assert apply(slurm, replace(wish, link="matlab"), "a5") is Outcome.STALE, "a licence that is no bandwidth"
    assert apply(slurm, replace(wish, link="net_gbps Flags=MAINT"), "a6") is Outcome.STALE


def test_a_pool_that_others_are_powering_up_is_at_another_version(slurm_server: SlurmServer) -> None:
    slurm = SlurmStage(slurm_server, interval=60.0)  # the picture is old enough to be wrong
    try:
        pool = next(pool for pool in slurm.observe().pools if pool.name == "a100-cloud")
        slurm.server.run("scontrol", "update", "NodeName=vm2", "State=POWER_UP")
        up = ScalePool(pool=pool.name, version=pool.version, nodes=pool.nodes + 1, was=pool.nodes)
        assert apply(slurm, up) is Outcome.STALE
        assert slurm.effects() == ()
    finally:
        wait_for(lambda: state_of(slurm, "vm2") == "idle", "on", 40.0)
        slurm.server.run("scontrol", "update", "NodeName=vm2", "State=POWER_DOWN")
        wait_for(lambda: state_of(slurm, "vm2") == "idle~", "off", 40.0)
        slurm.finish()


def state_of(slurm: SlurmStage, node: str) -> str:
    return slurm.server.run("sinfo", "-h", "-n", node, "-p", "train", "-o", "%t").stdout.strip()


def test_cloud_nodes_are_powered_up_and_down(slurm: SlurmStage) -> None:
    def pool() -> Pool:
        return next(pool for pool in slurm.observe().pools if pool.name == "a100-cloud")

    before = pool()
    assert (before.nodes, before.min_nodes, before.max_nodes) == (0, 0, 2)
    up = ScalePool(pool="a100-cloud", version=before.version, nodes=1, was=0)
    assert apply(slurm, up) is Outcome.DONE
    assert apply(slurm, up) is Outcome.ALREADY
    assert apply(slurm, up, "a2") is Outcome.STALE, "another version"
    slurm.until(lambda c: any(n.state is NodeState.READY for n in c.nodes if n.pool == "a100-cloud"))
    down = ScalePool(pool="a100-cloud", version=pool().version, nodes=0, was=1, remove=("vm1",))
    assert apply(slurm, replace(down, remove=("gpu1",)), "a3") is Outcome.FAILED
    assert apply(slurm, replace(down, remove=()), "a4") is Outcome.FAILED
    assert apply(slurm, down, "a5") is Outcome.DONE
    assert slurm.backend.probe(admit(down, id="a5"), slurm.now()) is Effect.PRESENT
    assert pool().nodes == 0
    wait_for(
        lambda: slurm.server.run("sinfo", "-h", "-n", "vm1", "-p", "train", "-o", "%t").stdout.strip() == "idle~", "off", 40.0
    )


def test_the_whole_story(slurm: SlurmStage) -> None:
    """Hold -> preempt with checkpoint -> the peak's job starts -> release -> the victim resumes."""
    victim = slurm.running("--gpus=8", "-p", "train", "-w", "gpu3", "-J", "victim")
    proof = checkpointed(slurm, victim)
    assert apply(slurm, hold(slurm), "s1") is Outcome.DONE
    assert apply(slurm, replace(preempt(victim, proof.id), bind_to="nothing"), "s0") is Outcome.STALE
    assert apply(slurm, replace(preempt(victim, proof.id), bind_to="peak"), "s2") is Outcome.DONE
    slurm.server.wait_state(victim.id, "PENDING")
    assert apply(slurm, ConfirmHold(hold="peak", fence=1), "s3") is Outcome.DONE
    peak = slurm.running("--gpus=8", "-p", "train", "--reservation=aiops-h-peak-f1", "-J", "peak")
    assert peak.nodes == ("gpu3",)
    slurm.server.run("scancel", peak.id)
    slurm.server.wait_state(peak.id, "CANCELLED")
    assert apply(slurm, ReleaseHold(hold="peak", fence=1), "s4") is Outcome.DONE
    slurm.requeue_at_once(victim.id)
    assert slurm.effects() == ("s1", "s2", "s3", "s4")
    assert slurm.job(victim.id).run_id.endswith("-1")
