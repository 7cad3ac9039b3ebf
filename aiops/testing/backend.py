"""What every implementation of the `Backend` port must do: subclass `BackendConformance` and give it a `stage` fixture.

    class TestMyBackend(BackendConformance):
        @pytest.fixture
        def stage(self, tmp_path): ...   # a `Stage` over a fresh small cluster; cleaned up afterwards

The cluster has one node or more; one service (at least 1 replica wanted, 1..4 allowed) where the backend has services, and a
running job where it has jobs. Rows about "a change" scale that service; without services they cordon the first node, or hold
a GPU of it. The stage is the only thing that knows what kind of cluster it is: it can also break it in the ways that count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, get_args, runtime_checkable

import pytest

from aiops import codec
from aiops.action import (
    Action,
    Admission,
    Cordon,
    Decision,
    Deny,
    Effect,
    HoldCapacity,
    Outcome,
    Preempt,
    Receipt,
    RequestCheckpoint,
    RolloutStep,
    ScalePool,
    ScaleService,
    SetPowerLimit,
    Uncordon,
)
from aiops.errors import Unreadable
from aiops.model import Cluster, Job, JobState, NodeState, Service
from aiops.ports import Backend

KINDS = frozenset(kind.__dataclass_fields__["kind"].default for kind in get_args(Action))
"""Every kind of action that the contract has."""


class Stage(Protocol):
    """A backend over a small cluster, and the power to break both."""

    backend: Backend

    def now(self) -> float:
        """The present, for `observe`, `apply` and `probe`."""
        ...

    def until(self, holds: Callable[[Cluster], bool]) -> Cluster:
        """Observe until `holds`, for a bounded time; the observation in which it did. Fails the test otherwise."""
        ...

    def restart(self) -> None:
        """The daemon dies and another one starts: `backend` is a fresh instance over the same cluster."""
        ...

    def lose_next_reply(self) -> None:
        """The next `apply` has its effect, but its answer never arrives: it raises `ReplyLost` or answers UNKNOWN."""
        ...

    def recreate(self, service: str) -> None:
        """Somebody deletes the service and creates another one under the same name. Never called without services."""
        ...

    def blind(self) -> None:
        """From now on the cluster cannot be read whole."""
        ...

    def effects(self) -> tuple[str, ...]:
        """The cluster's own log of effects: the admission id of each, in order."""
        ...


@runtime_checkable
class Deceives(Protocol):
    """What the stage of a backend that talks to a server should have besides: a server that does not do what it answers."""

    def lie_next(self) -> None:
        """The next change is answered as done, and nothing is done."""
        ...

    def halve_next(self) -> None:
        """Of the next change that carries a mark of its action only the mark takes effect; the answer says what is there."""
        ...


class ReplyLost(BaseException):
    """The daemon died between the effect and its answer; raised by a stage's failure point, never by a backend."""


def admit(action: Action, id: str = "a1", at: float = 0.0, denied: Deny | None = None) -> Admission:
    """A permission (or refusal) to carry out `action`."""
    return Admission(id=id, at=at, decision=Decision(policy="conformance", action=action, reason="test"), denied=denied)


def scale(service: Service, replicas: int) -> ScaleService:
    """Scale what was just observed."""
    return ScaleService(service=service.name, uid=service.uid, version=service.version, replicas=replicas, was=service.replicas)


_SELDOM: tuple[Action, ...] = (
    RolloutStep(service="web", uid="u", revision="r2", share=0.1, was=0.0),
    ScalePool(pool="p", version="1", nodes=2, was=1),
    SetPowerLimit(node="n0", gpu="g0", watts=300.0, was=None),
)


class BackendConformance:
    """The suite. Rows that need an action which the backend does not support are skipped by its name."""

    # -- observe -------------------------------------------------------------------------------------------------------

    def test_an_observation_is_whole(self, stage: Stage) -> None:
        now = stage.now()
        seen = stage.backend.observe(now)
        assert seen.at == now and seen.backend == stage.backend.name
        nodes = {node.name for node in seen.nodes}
        assert nodes and len(nodes) == len(seen.nodes) == len({node.uid for node in seen.nodes})
        assert all(node.pool in {pool.name for pool in seen.pools} for node in seen.nodes)
        assert all(set(job.nodes) <= nodes for job in seen.jobs)
        assert all(service.ready >= 0 and service.min_replicas <= service.max_replicas for service in seen.services)

    def test_no_gpu_is_given_twice(self, stage: Stage) -> None:
        seen = stage.until(lambda cluster: True)
        given = Counter(uuid for job in seen.jobs for uuid in job.gpu_uuids)
        assert not [uuid for uuid, times in given.items() if times > 1]

    def test_an_observation_survives_the_codec(self, stage: Stage) -> None:
        seen = stage.backend.observe(stage.now())
        assert codec.encode(codec.decode(Cluster, codec.encode(seen))) == codec.encode(seen)

    def test_looking_twice_changes_no_identity(self, stage: Stage) -> None:
        first, second = stage.until(settled), stage.until(settled)
        assert [(s.uid, s.version) for s in first.services] == [(s.uid, s.version) for s in second.services]
        assert [node.uid for node in first.nodes] == [node.uid for node in second.nodes]

    def test_an_unreadable_cluster_raises_and_gives_nothing(self, stage: Stage) -> None:
        stage.backend.observe(stage.now())
        stage.blind()
        with pytest.raises(Unreadable):
            stage.backend.observe(stage.now())

    # -- what it can do ------------------------------------------------------------------------------------------------

    def test_supports_names_actions_of_the_contract(self, stage: Stage) -> None:
        assert stage.backend.supports and stage.backend.supports <= KINDS

    def test_an_unsupported_action_is_refused_by_name(self, stage: Stage) -> None:
        wish = next((action for action in _SELDOM if action.kind not in stage.backend.supports), None)
        if wish is None:
            pytest.skip(f"the {stage.backend.name} backend supports every action")
        stage.until(settled)
        receipt = stage.backend.apply(admit(wish), stage.now())
        assert receipt.outcome is Outcome.UNSUPPORTED and wish.kind in receipt.detail
        assert stage.effects() == ()

    def test_a_denied_admission_has_no_effect(self, stage: Stage) -> None:
        receipt = stage.backend.apply(admit(change(stage), denied=Deny.KILL_SWITCH), stage.now())
        assert receipt.outcome is Outcome.FAILED and stage.effects() == ()

    # -- scale ---------------------------------------------------------------------------------------------------------

    def test_scaling_sets_the_absolute_number_and_replicas_become_ready(self, stage: Stage) -> None:
        needs(stage, "scale_service")
        service = stage.until(settled).services[0]
        assert stage.backend.apply(admit(scale(service, 2)), stage.now()).outcome is Outcome.DONE
        seen = stage.until(lambda cluster: cluster.services[0].ready == 2)
        assert seen.services[0].replicas == 2 and seen.services[0].version != service.version

    def test_a_repeat_is_already_and_has_one_effect(self, stage: Stage) -> None:
        admission = admit(change(stage))
        outcomes = [stage.backend.apply(admission, stage.now()).outcome for _ in range(3)]
        assert outcomes == [Outcome.DONE, Outcome.ALREADY, Outcome.ALREADY]
        assert stage.effects() == ("a1",)

    def test_a_repeat_after_others_acted_is_already(self, stage: Stage) -> None:
        needs(stage, "scale_service")
        first = admit(scale(stage.until(settled).services[0], 2))
        stage.backend.apply(first, stage.now())
        second = admit(scale(stage.until(settled).services[0], 3), id="a2")
        stage.backend.apply(second, stage.now())
        assert stage.backend.apply(first, stage.now()).outcome is Outcome.ALREADY
        assert stage.effects() == ("a1", "a2")

    def test_a_repeat_after_a_restart_is_already(self, stage: Stage) -> None:
        admission = admit(change(stage))
        stage.backend.apply(admission, stage.now())
        stage.restart()
        assert stage.backend.apply(admission, stage.now()).outcome is Outcome.ALREADY
        assert stage.effects() == ("a1",)

    def test_an_old_version_is_stale(self, stage: Stage) -> None:
        needs(stage, "scale_service")
        service = stage.until(settled).services[0]
        stage.backend.apply(admit(scale(service, 2)), stage.now())
        late = stage.backend.apply(admit(scale(service, 3), id="a2"), stage.now())
        assert late.outcome is Outcome.STALE and stage.effects() == ("a1",)
        assert stage.until(lambda cluster: True).services[0].replicas == 2

    def test_another_object_of_the_same_name_is_stale(self, stage: Stage) -> None:
        needs(stage, "scale_service")
        service = stage.until(settled).services[0]
        stage.recreate(service.name)
        receipt = stage.backend.apply(admit(scale(service, 2)), stage.now())
        assert receipt.outcome is Outcome.STALE and stage.effects() == ()

    def test_an_unknown_service_is_stale(self, stage: Stage) -> None:
        needs(stage, "scale_service")
        wish = ScaleService(service="nobody", uid="u", version="1", replicas=2, was=1)
        assert stage.backend.apply(admit(wish), stage.now()).outcome is Outcome.STALE

    # -- probe, and the lost reply -------------------------------------------------------------------------------------

    def test_a_probe_tells_absent_from_present_and_changes_nothing(self, stage: Stage) -> None:
        admission = admit(change(stage))
        assert stage.backend.probe(admission, stage.now()) is Effect.ABSENT
        assert stage.effects() == ()
        stage.backend.apply(admission, stage.now())
        assert stage.backend.probe(admission, stage.now()) is Effect.PRESENT
        assert stage.effects() == ("a1",)

    def test_a_lost_reply_is_found_by_a_probe_and_not_repeated(self, stage: Stage) -> None:
        admission = admit(change(stage))
        stage.lose_next_reply()
        assert lost(stage, admission)
        stage.restart()
        assert stage.backend.probe(admission, stage.now()) is Effect.PRESENT
        assert stage.backend.apply(admission, stage.now()).outcome is Outcome.ALREADY
        after = stage.until(lambda cluster: settled(cluster) and changed(cluster))
        assert changed(after) and Counter(stage.effects())["a1"] == 1

    def test_a_server_that_answers_done_and_does_nothing_is_found_out(self, stage: Stage) -> None:
        deceiver = deceives(stage)
        admission = admit(change(stage))
        deceiver.lie_next()
        stage.backend.apply(admission, stage.now())  # it cannot know better than the answer
        assert stage.backend.probe(admission, stage.now()) is Effect.ABSENT and stage.effects() == ()
        assert stage.backend.apply(admission, stage.now()).outcome is Outcome.DONE
        assert stage.backend.probe(admission, stage.now()) is Effect.PRESENT and stage.effects() == ("a1",)

    def test_half_a_change_is_never_done(self, stage: Stage) -> None:
        deceiver = deceives(stage)
        admission = admit(change(stage))
        deceiver.halve_next()
        assert stage.backend.apply(admission, stage.now()).outcome not in (Outcome.DONE, Outcome.ALREADY)
        stage.restart()
        assert stage.backend.probe(admission, stage.now()) is not Effect.PRESENT
        again = stage.backend.apply(admission, stage.now()).outcome  # refused for good, or done whole now
        assert again is not Outcome.ALREADY
        assert changed(stage.until(lambda cluster: True)) is (again is Outcome.DONE)

    def test_a_probe_of_an_unreadable_cluster_is_unreadable(self, stage: Stage) -> None:
        admission = admit(change(stage))
        stage.blind()
        assert stage.backend.probe(admission, stage.now()) is Effect.UNREADABLE

    def test_apply_never_raises_for_what_the_cluster_does(self, stage: Stage) -> None:
        admission = admit(change(stage))
        stage.blind()
        receipt = stage.backend.apply(admission, stage.now())
        assert isinstance(receipt, Receipt) and receipt.outcome in (Outcome.FAILED, Outcome.UNKNOWN)

    # -- nodes and jobs ------------------------------------------------------------------------------------------------

    def test_cordon_and_uncordon(self, stage: Stage) -> None:
        needs(stage, "cordon", "uncordon")
        node = stage.until(settled).nodes[0]
        stage.backend.apply(admit(Cordon(node=node.name, uid=node.uid, reason="test")), stage.now())
        stage.until(lambda cluster: cluster.nodes[0].state is NodeState.CORDONED)
        stage.backend.apply(admit(Uncordon(node=node.name, uid=node.uid), id="a2"), stage.now())
        stage.until(lambda cluster: cluster.nodes[0].state is NodeState.READY)

    def test_a_node_of_another_identity_is_stale(self, stage: Stage) -> None:
        needs(stage, "cordon")
        node = stage.until(settled).nodes[0]
        receipt = stage.backend.apply(admit(Cordon(node=node.name, uid="another", reason="test")), stage.now())
        assert receipt.outcome is Outcome.STALE and stage.effects() == ()
        assert stage.until(lambda cluster: True).nodes[0].state is NodeState.READY

    def test_another_run_of_the_same_job_is_stale(self, stage: Stage) -> None:
        needs(stage, "request_checkpoint")
        job = running_job(stage)
        receipt = stage.backend.apply(admit(RequestCheckpoint(job=job.id, run_id="another")), stage.now())
        assert receipt.outcome is Outcome.STALE and stage.effects() == ()

    def test_no_preemption_without_the_proof_it_names(self, stage: Stage) -> None:
        needs(stage, "preempt")
        job = running_job(stage)
        wish = Preempt(job=job.id, run_id=job.run_id, on_nodes=job.nodes, checkpoint="none", gpus=job.gpus, lost_gpu_s=0.0)
        for moved in (wish, replace(wish, run_id="another"), replace(wish, on_nodes=("elsewhere",))):
            assert stage.backend.apply(admit(moved), stage.now()).outcome is Outcome.STALE
        assert stage.effects() == ()
        again = next(one for one in stage.until(lambda cluster: True).jobs if one.id == job.id)
        assert (again.state, again.run_id) == (JobState.RUNNING, job.run_id)


def settled(cluster: Cluster) -> bool:
    """True where every service has all the replicas that it wants."""
    return bool(cluster.services or cluster.nodes) and all(service.ready == service.replicas for service in cluster.services)


def change(stage: Stage) -> Action:
    """One change of what is there: its service to 2 replicas; without services its first node out of service, or held."""
    seen = stage.until(settled)
    if seen.services:
        return scale(seen.services[0], 2)
    node = seen.nodes[0]
    if "cordon" in stage.backend.supports:
        return Cordon(node=node.name, uid=node.uid, reason="test")
    return HoldCapacity(hold="conformance", owner="user/test", nodes=(node.name,), gpus=1, ttl_s=900.0, fence=1)


def changed(cluster: Cluster) -> bool:
    """True where `change` is there."""
    if cluster.services:
        return cluster.services[0].replicas == 2
    return cluster.nodes[0].state is NodeState.CORDONED or bool(cluster.holds)


def needs(stage: Stage, *kinds: str) -> None:
    """Skip the row where the backend does not support what it tests."""
    missing = sorted(set(kinds) - stage.backend.supports)
    if missing:
        pytest.skip(f"the {stage.backend.name} backend does not support {', '.join(missing)}")


def deceives(stage: Stage) -> Deceives:
    """The stage's server, if it can be made to lie; else the row is skipped."""
    if not isinstance(stage, Deceives):
        pytest.skip(f"the {stage.backend.name} stage cannot lie")
    return stage


def running_job(stage: Stage) -> Job:
    """The stage's running job; skips where its cluster has none."""
    if not stage.backend.observe(stage.now()).jobs:
        pytest.skip(f"the {stage.backend.name} stage has no job")
    seen = stage.until(lambda cluster: any(job.state is JobState.RUNNING for job in cluster.jobs))
    return next(job for job in seen.jobs if job.state is JobState.RUNNING)


def lost(stage: Stage, admission: Admission) -> bool:
    """Apply, and True where no answer came."""
    try:
        return stage.backend.apply(admission, stage.now()).outcome is Outcome.UNKNOWN
    except ReplyLost:
        return True
