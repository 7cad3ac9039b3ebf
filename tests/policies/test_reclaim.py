"""Reclaim: what was lent comes back to who is entitled to it, after a checkpoint, from borrowers alone."""

from dataclasses import replace
from typing import Any

import pytest

from aiops.action import Admission, Decision, Entry, EntryState, HoldCapacity, Preempt, RequestCheckpoint
from aiops.errors import ConfigError
from aiops.model import Checkpoint, Cluster, Gpu, HoldState, Job, JobState, Node, NodeState, Queue, Reservation
from aiops.snapshot import Snapshot
from policies.reclaim import Reclaim

NOW = 1e9
NODES = tuple(
    Node(
        name=f"n{i}", uid=f"n{i}", pool="p", state=NodeState.READY,
        gpus=tuple(Gpu(uuid=f"n{i}/{k}", index=k) for k in range(8)),
    )
    for i in range(3)
)  # fmt: skip
QUEUES = (Queue(name="a", quota_gpus=8), Queue(name="b", quota_gpus=16))


def running(id: str, node: int, gpus: int = 8, lender: str = "", **changes: Any) -> Job:
    proof = Checkpoint(id=f"c-{id}", run_id=id, at=NOW - 50.0, read_at=NOW, verified=True)
    plain = Job(
        id=id, run_id=id, name=id, queue="a", state=JobState.RUNNING, gpus=gpus, submitted_at=NOW - 9e4, nodes=(f"n{node}",),
        started_at=NOW - 100.0, checkpoint=proof, checkpoint_s=20.0, restart_s=60.0, preemptible=True, lender=lender,
    )  # fmt: skip
    return replace(plain, **changes)


OWNER = Job(id="b2", run_id="b2", name="b2", queue="b", state=JobState.QUEUED, gpus=8, submitted_at=NOW - 10.0)
FULL = (running("a1", 0), running("a2", 1, lender="b"), running("b1", 2, queue="b"))
"""Queue a on its own n0 and borrowing n1; b on n2. b's second job is entitled to eight GPUs that a2 borrowed."""


def seen(*jobs: Job, supports: tuple[str, ...] = ("preempt",)) -> Snapshot:
    cluster = Cluster(at=NOW, backend="b", nodes=NODES, jobs=jobs, queues=QUEUES)
    return Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, supports=supports)


def answers(snapshot: Snapshot) -> list[Any]:
    return [one.action if isinstance(one, Decision) else one for one in Reclaim().decide(snapshot)]


def test_the_borrower_is_stopped_for_the_owner_and_what_it_frees_is_held_for_it() -> None:
    hold, stop = answers(seen(*FULL, OWNER, supports=("preempt", "hold_capacity")))
    assert isinstance(hold, HoldCapacity)
    assert (hold.owner, hold.nodes, hold.gpus) == ("b2", ("n1",), 8)
    assert isinstance(stop, Preempt)
    assert (stop.job, stop.on_nodes, stop.bind_to) == ("a2", ("n1",), hold.hold)


def test_nobody_on_his_own_share_is_ever_stopped() -> None:
    mine = replace(FULL[1], lender="")  # then a uses 16 of 8: over its quota, but nobody lent it anything here
    assert answers(seen(FULL[0], mine, FULL[2], OWNER)) == []
    # Not even where that would be cheaper than the borrower
    dear = replace(FULL[1], checkpoint=replace(FULL[1].checkpoint, at=NOW - 290.0))  # type: ignore[type-var]
    assert [one.job for one in answers(seen(FULL[0], dear, FULL[2], OWNER))] == ["a2"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"gpus": 16}, id="beyond its queue's quota"),
        pytest.param({"queue": "a"}, id="of a queue that uses all of its own"),
        pytest.param({"gpu_type": "H100"}, id="for which nobody's room would do"),
        pytest.param({"state": JobState.HELD}, id="held by its owner"),
    ],
)
def test_who_is_not_entitled_takes_nothing_back(changes: dict[str, Any]) -> None:
    assert answers(seen(*FULL, replace(OWNER, **changes))) == []


def test_a_free_node_is_used_before_anybody_is_stopped_and_a_leaving_borrower_is_waited_for() -> None:
    assert answers(seen(FULL[0], FULL[1], OWNER)) == []
    (note,) = answers(seen(FULL[0], replace(FULL[1], state=JobState.STOPPING), FULL[2], OWNER))
    assert note == "b2: starts once those that are stopping have left"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"checkpoint": None}, "ask", id="no checkpoint yet"),
        pytest.param({"checkpoint": None, "checkpoint_requested_at": NOW - 20.0}, "wait", id="it is writing one"),
        pytest.param(
            {"checkpoint": Checkpoint(id="c", run_id="a2", at=NOW - 290.0, read_at=NOW, verified=False, reading=True)}, "wait",
            id="a large one is still being read: asked for another each minute, none would ever be proven",
        ),
        pytest.param(
            {"checkpoint": Checkpoint(id="c", run_id="a2", at=NOW - 301.0, read_at=NOW, verified=False, reading=True)}, "ask",
            id="too old by now, proven or not",
        ),
        pytest.param(
            {"checkpoint": Checkpoint(id="c", run_id="a2", at=NOW - 10.0, read_at=NOW, verified=False)}, "ask",
            id="read and wrong: however young, it will never be proven",
        ),
        pytest.param({"checkpoint": None, "checkpoint_requested_at": NOW - 31.0}, "give up", id="silent for 1.5 times as long"),
        pytest.param(
            {"checkpoint": None, "checkpoint_requested_at": NOW - 31.0, "started_at": NOW - 60.0}, "wait",
            id="asked while it still started: its patience begins then",
        ),
    ],
)  # fmt: skip
def test_the_handshake_comes_first(changes: dict[str, Any], expected: str) -> None:
    found = answers(seen(FULL[0], replace(FULL[1], **changes), FULL[2], OWNER))
    asked = [one for one in found if not isinstance(one, str)]
    assert asked == ([RequestCheckpoint(job="a2", run_id="a2")] if expected == "ask" else [])
    told = ["b2: entitled, but a2 in its way cannot be stopped: no checkpoint is proven"]
    assert [one for one in found if isinstance(one, str)] == (told if expected == "give up" else [])


def test_who_was_silent_is_asked_again_after_a_while() -> None:
    """Else a request that was lost once would keep what was lent until the borrower ends."""
    silent = replace(FULL[1], checkpoint=None, checkpoint_requested_at=NOW - 601.0, started_at=NOW - 9e3)
    found = answers(seen(FULL[0], silent, FULL[2], OWNER))
    assert [one for one in found if not isinstance(one, str)] == [RequestCheckpoint(job="a2", run_id="a2")]


def asked(job: str, ago: float) -> Entry:
    decision = Decision(policy="reclaim", action=RequestCheckpoint(job=job, run_id=job), reason="r")
    admission = Admission(id=f"{job}-{ago}", at=NOW - ago, decision=decision)
    return Entry(admission=admission, state=EntryState.CONFIRMED, epoch=1, expires_at=NOW, changed_at=NOW - ago)


WRONG = Checkpoint(id="c", run_id="s0", at=NOW - 10.0, read_at=NOW, verified=False)


@pytest.mark.parametrize(
    ("checkpoint", "history", "job"),
    [
        pytest.param(WRONG, (asked("s0", 40.0),), "s0", id="wrong once: asked again"),
        pytest.param(WRONG, (asked("s0", 40.0), asked("s0", 90.0)), "s1", id="wrong twice: the next is asked"),
        pytest.param(WRONG, (asked("s0", 40.0), asked("s0", 601.0)), "s0", id="that was long ago: its disk may be well again"),
        pytest.param(WRONG, (asked("s0", 40.0), asked("s1", 90.0)), "s0", id="another was asked"),
        pytest.param(
            replace(WRONG, at=NOW - 301.0, verified=True), (asked("s0", 40.0), asked("s0", 90.0)), "s0", id="old, not wrong"
        ),
    ],
)  # fmt: skip
def test_who_answers_wrong_time_after_time_does_not_keep_the_owner_waiting(
    checkpoint: Checkpoint, history: tuple[Entry, ...], job: str
) -> None:
    """A run whose disk is full would be asked for ever, and the one beside it, whose checkpoints are sound, never."""
    cheap = running("s0", 1, 4, lender="b", checkpoint=checkpoint)
    dear = running("s1", 1, 4, lender="b", checkpoint=None, restart_s=900.0)
    snapshot = replace(seen(FULL[0], cheap, dear, FULL[2], replace(OWNER, gpus=4)), history=history)
    assert [one for one in answers(snapshot) if not isinstance(one, str)] == [RequestCheckpoint(job=job, run_id=job)]


def test_a_suspended_borrower_is_told_of_and_what_nobody_lent_is_not() -> None:
    frozen = replace(FULL[1], state=JobState.SUSPENDED)
    (note,) = answers(seen(FULL[0], frozen, FULL[2], OWNER))
    assert "a2 in its way" in note
    assert answers(seen(FULL[0], frozen, FULL[2], replace(OWNER, gpu_type="H100"))) == []


def test_who_was_evicted_as_often_as_anybody_may_be_is_not_chosen() -> None:
    """The core would refuse it for the rest of the day, and with it the whole plan; the other one goes."""
    small = [
        running(id, 1, 4, lender="b", evictions=(NOW - 60.0,) * (i == 0), restart_s=60.0 + i)
        for i, id in enumerate(("s0", "s1"))
    ]
    snapshot = seen(FULL[0], *small, FULL[2], replace(OWNER, gpus=4))
    assert [one.job for one in answers(snapshot)] == ["s0"]
    assert [one.job for one in answers(replace(snapshot, limits={"evictions_per_day": 1}))] == ["s1"]
    assert [one.job for one in answers(replace(snapshot, limits={"scopes": {"reclaim": ["job/s1"]}}))] == ["s1"]


def test_of_several_borrowers_those_who_lose_least_go_and_no_more_than_needed() -> None:
    proof = FULL[1].checkpoint
    assert proof is not None
    small = [
        running(f"s{i}", 1, 4, lender="b", checkpoint=replace(proof, id=f"c{i}", run_id=f"s{i}", at=NOW - age))
        for i, age in enumerate((200.0, 20.0))
    ]
    owner = replace(OWNER, gpus=4)
    assert [one.job for one in answers(seen(FULL[0], *small, FULL[2], owner))] == ["s1"]
    # And two owners take both, each once
    both = answers(seen(FULL[0], *small, FULL[2], owner, replace(owner, id="b3", run_id="b3")))
    assert sorted(one.job for one in both) == ["s0", "s1"]


@pytest.mark.parametrize("first", ["b2", "b3"])
def test_what_one_is_leaving_serves_two_owners_and_nobody_else_goes_for_the_second(first: str) -> None:
    """a2 frees eight and four are held for b2: the other four are b3's."""
    leaving, other = running("a2", 1, lender="b", state=JobState.STOPPING), running("a3", 2, lender="b")
    owners = [replace(OWNER, id=id, run_id=id, gpus=4, priority=int(id == first)) for id in ("b2", "b3")]
    snapshot = replace(seen(FULL[0], leaving, other, *owners), reservations=(held("b2", "n1", 4),))
    assert [one for one in answers(snapshot) if not isinstance(one, str)] == []


def held(owner: str, node: str, gpus: int) -> Reservation:
    return Reservation(
        name=f"reclaim-{owner}", owner=owner, state=HoldState.HELD, fence=1, created_at=NOW - 10.0, expires_at=NOW + 20.0,
        hard_cap_at=NOW + 890.0, nodes=(node,), gpus=gpus,
    )  # fmt: skip


def test_what_an_owner_is_about_to_start_on_is_not_counted_twice_against_the_next() -> None:
    """Four of n1 are free and held for b2; the borrower's other four are b3's."""
    lent = running("a2", 1, 4, lender="b")
    owners = [replace(OWNER, id=id, run_id=id, gpus=4, priority=rank) for id, rank in (("b2", 1), ("b3", 0))]
    snapshot = replace(seen(FULL[0], lent, FULL[2], *owners), reservations=(held("b2", "n1", 4),))
    assert [one.job for one in answers(snapshot)] == ["a2"]


def test_what_is_held_for_an_owner_that_cannot_be_helped_is_nobody_elses() -> None:
    """b2 needs n0, which is held for it, and n1, whose borrower is suspended: b3 does not start on n0, but where a3 is."""
    kinds = ("A100", "A100", "L4")
    nodes = tuple(replace(n, gpus=tuple(replace(g, model=kind) for g in n.gpus)) for n, kind in zip(NODES, kinds, strict=True))
    lent = (running("a2", 1, lender="b", state=JobState.SUSPENDED), running("a3", 2, lender="b"))
    owners = (replace(OWNER, gpus=16, gpu_type="A100", priority=1), replace(OWNER, id="b3", run_id="b3"))
    queues = (QUEUES[0], Queue(name="b", quota_gpus=24))
    cluster = Cluster(at=NOW, backend="b", nodes=nodes, jobs=(*lent, *owners), queues=queues)
    kept = (held("b2", "n0", 8),)
    found = answers(Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, reservations=kept, supports=("preempt",)))
    assert [one.job for one in found if isinstance(one, Preempt)] == ["a3"]


def test_a_borrower_half_on_a_node_that_takes_no_work_is_stopped_like_any_other() -> None:
    """Together with what one is leaving it makes room; its other node is nobody's floor."""
    nodes = (*NODES[:2], replace(NODES[2], state=NodeState.CORDONED))
    wide = replace(running("a2", 1, 16, lender="b"), nodes=("n1", "n2"))
    leaving = running("a1", 0, state=JobState.STOPPING)
    cluster = Cluster(at=NOW, backend="b", nodes=nodes, jobs=(leaving, wide, replace(OWNER, gpus=16)), queues=QUEUES)
    found = answers(Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, supports=("preempt",)))
    assert [one.job for one in found] == ["a2"]


ROOMY = tuple(replace(node, cpu_cores=64.0, memory_bytes=512e9) for node in NODES)


@pytest.mark.parametrize(
    ("asked", "stopped"),
    [
        pytest.param({"cpu_cores": 32.0}, ["a2"], id="the borrower holds the cores"),
        pytest.param({"memory_bytes": 256e9}, ["a2"], id="the borrower holds the memory"),
        pytest.param({"cpu_cores": 4.0, "memory_bytes": 9e9}, [], id="what is left suffices: it starts by itself"),
        pytest.param({"cpu_cores": 65.0}, [], id="no node has so many cores: nobody is stopped in vain"),
    ],
)
def test_a_borrower_that_holds_cores_or_memory_is_stopped_although_gpus_are_free(
    asked: dict[str, Any], stopped: list[str]
) -> None:
    nodes = (ROOMY[1],)
    greedy = running("a2", 1, 2, lender="b", cpu_cores=60.0, memory_bytes=500e9)
    jobs = (greedy, replace(OWNER, gpus=4, **asked))
    cluster = Cluster(at=NOW, backend="b", nodes=nodes, jobs=jobs, queues=QUEUES)
    found = answers(Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, supports=("preempt",)))
    assert [one.job for one in found if isinstance(one, Preempt)] == stopped
    # And where nobody says how many cores a node has, GPUs alone decide
    unknown = replace(cluster, nodes=(NODES[1],))
    assert answers(Snapshot(id="c", now=NOW, epoch=1, cluster=unknown, supports=("preempt",))) == []


def test_cores_that_the_scheduler_promised_twice_are_no_reason_to_stop_anybody() -> None:
    """It evidently does not count them: the owner starts by itself."""
    twice = tuple(running(f"a{i}", 1, 2, lender="b", cpu_cores=60.0) for i in (2, 3))
    jobs = (*twice, replace(OWNER, gpus=4, cpu_cores=32.0))
    cluster = Cluster(at=NOW, backend="b", nodes=(ROOMY[1],), jobs=jobs, queues=QUEUES)
    assert answers(Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, supports=("preempt",))) == []


def test_two_owners_need_the_cores_of_two_borrowers() -> None:
    """What the first is about to take is not there for the second."""
    jobs = [running(f"a{i}", i, 2, lender="b", cpu_cores=60.0) for i in (1, 2)]
    owners = [replace(OWNER, id=f"b{i}", run_id=f"b{i}", gpus=4, cpu_cores=40.0) for i in (1, 2)]
    cluster = Cluster(at=NOW, backend="b", nodes=ROOMY[1:], jobs=(*jobs, *owners), queues=QUEUES)
    found = answers(Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, supports=("preempt",)))
    assert sorted(one.job for one in found) == ["a1", "a2"]


def test_cores_that_one_owner_is_about_to_take_are_not_there_for_the_next() -> None:
    """b2 starts on the free GPUs of n1 and takes its cores: to stop a2 there would not start b3."""
    lent = running("a2", 1, 4, lender="b")
    owners = [replace(OWNER, id=f"b{i}", run_id=f"b{i}", gpus=4, cpu_cores=40.0, priority=-i) for i in (2, 3)]
    cluster = Cluster(at=NOW, backend="b", nodes=(ROOMY[1],), jobs=(lent, *owners), queues=QUEUES)
    assert answers(Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, supports=("preempt",))) == []


def test_wrong_settings_are_refused_by_their_path() -> None:
    with pytest.raises(ConfigError, match=r"policies\.reclaim\.oops"):
        Reclaim.from_settings({"oops": 1}, "aiops.yaml")
