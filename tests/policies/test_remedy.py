"""Remedy: the cause is treated, one reversible step at a time, judged by the step time, and no GPU is ever added."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.action import (
    Action,
    Admission,
    Decision,
    Entry,
    EntryState,
    LimitBandwidth,
    Migrate,
    ReleaseBandwidth,
    RequestCheckpoint,
    ReserveBandwidth,
    ScalePool,
    ScaleService,
    TuneJob,
)  # fmt: skip
from aiops.codec import decode, encode
from aiops.errors import ConfigError
from aiops.model import (
    Cause,
    Checkpoint,
    Cluster,
    Finding,
    Gpu,
    HoldState,
    Job,
    JobState,
    Knob,
    Link,
    Node,
    NodeState,
    Reservation,
    Series,
    SeriesKey,
    Share,
    Volume,
)  # fmt: skip
from aiops.snapshot import Snapshot, query_id
from policies import bandit
from policies.remedy import Remedy

NOW = 1e9
POLICY = Remedy()
DISK = Link(name="disk", kind="storage", capacity_bytes_per_s=1000.0, device="sda", node="n0")
WORKERS = Knob(name="loader_workers", value=4.0, least=1.0, most=16.0)
GPUS = tuple(Gpu(uuid=f"g{i}", index=i) for i in range(4))
NODES = tuple(Node(name=f"n{i}", uid=f"u{i}", pool="p", state=NodeState.READY, gpus=GPUS) for i in range(2))


def job(id: str, **changes: Any) -> Job:
    plain = Job(
        id=id, run_id=f"{id}-1", name=id, queue="q", state=JobState.RUNNING, gpus=2, submitted_at=0.0, nodes=("n0",),
        started_at=NOW - 7200.0, volumes=("data",), priority=5, knobs=(WORKERS,),
    )  # fmt: skip
    return replace(plain, **changes)


TRAIN, HOG = job("train"), job("hog", priority=1)


def found(cause: Cause, **changes: Any) -> Finding:
    plain = Finding(
        id=f"{cause.value}:disk", at=NOW - 10.0, cause=cause, subject="disk:n0/sda", score=1.0, confidence=0.9,
        sli="job:train:job_step_duration_seconds", counterfactual={"step_now_s": 2.0, "step_s": 1.0},
    )  # fmt: skip
    return replace(plain, **changes)


def steps(before: float, after: float | None = None, changed_at: float = NOW - 400.0, name: str = "train") -> Series:
    times = np.arange(NOW - 3600.0, NOW + 1.0, 30.0)
    values = np.where(times > changed_at, before if after is None else after, before)
    return Series(key=SeriesKey.of("job_step_duration_seconds", job_id=name, rank="0"), times=times, values=values)


def seen(
    *findings: Finding, jobs: tuple[Job, ...] = (TRAIN, HOG), link: Link = DISK, series: tuple[Series, ...] = (), **changes: Any
) -> Snapshot:
    cluster = Cluster(at=NOW, backend="b", nodes=NODES, jobs=jobs, links=(link,), volumes=(Volume(name="data", link="disk"),))
    needs = POLICY.needs(cluster)
    said = {"diagnosed_at": NOW - 10.0, **changes}
    return Snapshot(
        id="c", now=NOW, epoch=1, cluster=cluster, findings=findings,
        series={query_id(need.query): series for need in needs}, **said,
    )  # fmt: skip


def asks(snapshot: Snapshot, policy: Remedy = POLICY) -> list[Action]:
    return [one.action for one in policy.decide(snapshot) if isinstance(one, Decision)]


def notes(snapshot: Snapshot) -> str:
    return "; ".join(one for one in POLICY.decide(snapshot) if isinstance(one, str))


def done(action: Action, cause: Cause, ago: float = 400.0, state: EntryState = EntryState.CONFIRMED, id: str = "a") -> Entry:
    decision = Decision(policy="remedy", action=action, reason="r", cause=f"{cause.value} of train")
    admission = Admission(id=id, at=NOW - ago, decision=decision)
    return Entry(admission=admission, state=state, epoch=1, expires_at=NOW - ago + 120.0, changed_at=NOW - ago)


CAP = LimitBandwidth(link="disk", owner="job/hog", bytes_per_s=250.0, was=None)
CAPPED = replace(DISK, shares=(Share(owner="job/hog", cap_bytes_per_s=250.0),))
GIVE = ReserveBandwidth(link="disk", owner="job/train", bytes_per_s=250.0)
MORE = TuneJob(job="train", run_id="train-1", knob="loader_workers", value=8.0, was=4.0)


# -- what is tried first -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finding", "jobs", "wish"),
    [
        pytest.param(
            found(Cause.NOISY_NEIGHBOUR, subject="job:hog", neighbour="job:hog"), (TRAIN, HOG), CAP, id="the hog is capped"
        ),
        pytest.param(found(Cause.IO_STALL), (TRAIN, HOG), CAP, id="storage: the least important other user is capped"),
        pytest.param(
            found(Cause.IO_STALL), (TRAIN, replace(HOG, priority=6)), GIVE, id="nobody outranked: the sufferer gets a guarantee"
        ),
        pytest.param(found(Cause.IO_STALL), (TRAIN, replace(HOG, protected=True)), GIVE, id="the neighbour is protected"),
        pytest.param(
            found(Cause.IO_STALL), (replace(TRAIN, protected=True), replace(HOG, protected=True)), MORE,
            id="what a protected job is given could not be taken back: no guarantee",
        ),
        pytest.param(found(Cause.PREP_STALL, subject="host:n0"), (TRAIN, HOG), MORE, id="its own loader: more of it"),
        pytest.param(
            found(Cause.MEMORY_PRESSURE, subject="host:n0"), (TRAIN, HOG), replace(MORE, value=2.0),
            id="memory: fewer loaders, not more",
        ),
    ],
)  # fmt: skip
def test_the_cause_decides_what_is_tried_first(finding: Finding, jobs: tuple[Job, ...], wish: Action) -> None:
    assert asks(seen(finding, jobs=jobs)) == [wish]


@pytest.mark.parametrize(
    "finding",
    [
        pytest.param(found(Cause.IO_STALL, confidence=0.59), id="not sure"),
        pytest.param(found(Cause.IO_STALL, horizon_s=600.0), id="a warning"),
        pytest.param(found(Cause.LOAD_CHANGE), id="no fault"),
        pytest.param(found(Cause.GPU_FAULT), id="another policy's"),
        pytest.param(found(Cause.IO_STALL, sli="job:gone:x", subject="disk:n0/sda"), id="of a job that is not there"),
        pytest.param(found(Cause.IO_STALL, sli=None), id="nobody is named to suffer"),
    ],
)
def test_nothing_is_done_about_what_is_not_surely_a_running_jobs_trouble(finding: Finding) -> None:
    assert asks(seen(finding)) == []


def test_a_decision_names_its_cause_the_rejected_alternatives_and_what_is_expected() -> None:
    (wish,) = POLICY.decide(seen(found(Cause.IO_STALL), jobs=(TRAIN, replace(HOG, priority=6))))
    assert isinstance(wish, Decision)
    assert wish.cause == "io_stall of train" and wish.expect == "a step of 1 s" and wish.inputs_at == NOW - 10.0
    assert "add GPUs" in wish.rejected[0] and "nobody on disk may be capped" in wish.rejected[1]


def test_one_step_per_job_at_a_time() -> None:
    both = (found(Cause.IO_STALL), found(Cause.PREP_STALL, subject="host:n0", confidence=0.8))
    snapshot = seen(*both)
    assert asks(snapshot) == [CAP] and "has not shown its effect" in notes(snapshot)
    waiting = seen(*both, link=CAPPED, history=(done(CAP, Cause.IO_STALL, ago=100.0),))
    assert asks(waiting) == []
    in_flight = seen(*both, history=(done(CAP, Cause.IO_STALL, ago=10.0, state=EntryState.SENT),))
    assert asks(in_flight) == []


def test_knobs_stay_within_their_declared_bounds() -> None:
    near = job("train", knobs=(replace(WORKERS, value=12.0),))
    assert asks(seen(found(Cause.PREP_STALL, subject="host:n0"), jobs=(near,))) == [replace(MORE, value=16.0, was=12.0)]
    full = seen(found(Cause.PREP_STALL, subject="host:n0"), jobs=(job("train", knobs=(replace(WORKERS, value=16.0),)),))
    assert asks(full) == [] and "may go no further" in notes(full)


# -- did it help? ------------------------------------------------------------------------------------------------------


TUNED = job("train", knobs=(replace(WORKERS, value=8.0),))
BACK = TuneJob(job="train", run_id="train-1", knob="loader_workers", value=4.0, was=8.0)


@pytest.mark.parametrize(
    ("after", "wishes"),
    [
        pytest.param(1.0, [], id="half the step: kept"),
        pytest.param(1.97, [BACK], id="1.5 % saved: noise, put back"),
        pytest.param(3.0, [BACK], id="worse: put back"),
    ],
)
def test_a_knob_that_did_not_help_is_put_back(after: float, wishes: list[Action]) -> None:
    history = (done(MORE, Cause.PREP_STALL),)
    assert asks(seen(jobs=(TUNED,), series=(steps(2.0, after),), history=history)) == wishes


def test_what_did_not_help_is_not_tried_again_for_an_hour() -> None:
    stall = found(Cause.PREP_STALL, subject="host:n0")
    undo = Entry(
        admission=replace(done(BACK, Cause.PREP_STALL, 90.0).admission, decision=Decision(
            policy="remedy", action=BACK, reason="r", cause="put back: prep_stall of train")),
        state=EntryState.CONFIRMED, epoch=1, expires_at=NOW, changed_at=NOW - 90.0,
    )  # fmt: skip
    again = seen(stall, jobs=(TRAIN,), series=(steps(2.0),), history=(done(MORE, Cause.PREP_STALL), undo))
    assert asks(again) == [] and "tried lately" in notes(again)
    later = seen(stall, jobs=(TRAIN,), history=(done(MORE, Cause.PREP_STALL, ago=3601.0),))
    assert asks(later) == [MORE]


def test_what_is_not_measured_is_not_judged() -> None:
    assert asks(seen(jobs=(TUNED,), history=(done(MORE, Cause.PREP_STALL),))) == []
    early = seen(jobs=(TUNED,), series=(steps(2.0, 3.0, NOW - 200.0),), history=(done(MORE, Cause.PREP_STALL, ago=200.0),))
    assert asks(early) == []


def test_what_a_person_turned_since_is_left_alone() -> None:
    other = job("train", knobs=(replace(WORKERS, value=6.0),))
    assert asks(seen(jobs=(other,), series=(steps(2.0, 3.0),), history=(done(MORE, Cause.PREP_STALL),))) == []


def test_caps_and_guarantees_go_back_when_the_trouble_has_been_gone_for_a_while() -> None:
    lift = LimitBandwidth(link="disk", owner="job/hog", bytes_per_s=None, was=250.0)
    helped = (steps(2.0, 1.0, NOW - 700.0),)
    assert asks(seen(link=CAPPED, series=helped, history=(done(CAP, Cause.IO_STALL, ago=700.0),))) == [lift]
    assert asks(seen(link=CAPPED, series=helped, history=(done(CAP, Cause.IO_STALL, ago=599.0),))) == []
    given = replace(DISK, shares=(Share(owner="job/train", guarantee_bytes_per_s=250.0),))
    release = [ReleaseBandwidth(link="disk", owner="job/train")]
    assert asks(seen(link=given, series=helped, history=(done(GIVE, Cause.IO_STALL, ago=700.0),))) == release


@pytest.mark.parametrize("at", [None, NOW - 200.0, NOW + 10.0])
def test_without_a_fresh_diagnosis_nothing_is_tried_and_nothing_counts_as_gone(at: float | None) -> None:
    """A diagnosis that hangs leaves its last findings behind, and one that failed leaves none: neither says how it is now."""
    assert asks(seen(found(Cause.PREP_STALL, subject="host:n0"), diagnosed_at=at)) == []
    given = replace(DISK, shares=(Share(owner="job/train", guarantee_bytes_per_s=250.0),))
    assert asks(seen(link=given, history=(done(GIVE, Cause.IO_STALL, ago=700.0),), diagnosed_at=at)) == []


def test_a_cap_goes_back_though_the_sufferer_is_no_longer_listed() -> None:
    lift = LimitBandwidth(link="disk", owner="job/hog", bytes_per_s=None, was=250.0)
    assert asks(seen(jobs=(HOG,), link=CAPPED, history=(done(CAP, Cause.IO_STALL, ago=700.0),))) == [lift]


def test_a_cap_is_as_old_as_the_last_time_it_was_set() -> None:
    """It was put back in between: what is in force now has stood for two minutes."""
    history = (done(CAP, Cause.IO_STALL, ago=5000.0), done(CAP, Cause.IO_STALL, ago=120.0, id="b"))
    assert asks(seen(link=CAPPED, history=history)) == []


def test_a_cap_under_a_cap_goes_back_too() -> None:
    """The tighter one was put back; the one before it is in force again, and must not stay for ever."""
    link = replace(DISK, shares=(Share(owner="job/hog", cap_bytes_per_s=400.0),))
    first, second = replace(CAP, bytes_per_s=400.0), replace(CAP, was=400.0)
    history = (done(first, Cause.IO_STALL, ago=9000.0), done(second, Cause.IO_STALL, ago=5000.0, id="b"))
    assert asks(seen(link=link, history=history)) == [LimitBandwidth(link="disk", owner="job/hog", bytes_per_s=None, was=400.0)]


def test_two_who_slow_each_other_down_are_not_both_capped() -> None:
    """Whoever is capped is slow because of that: to cap the other in return would leave half the link to nobody."""
    twins = (TRAIN, job("hog", priority=5))
    both = [found(Cause.NET_CONTENTION, id=name, sli=f"job:{name}:job_step_duration_seconds") for name in ("hog", "train")]
    (first,) = (one for one in asks(seen(*both, jobs=twins)) if isinstance(one, LimitBandwidth))
    capped = replace(DISK, shares=(Share(owner=first.owner, cap_bytes_per_s=250.0),))
    assert not [one for one in asks(seen(*both, jobs=twins, link=capped)) if isinstance(one, LimitBandwidth)]


def test_a_cap_that_did_not_help_makes_way_for_the_next_remedy() -> None:
    lift = LimitBandwidth(link="disk", owner="job/hog", bytes_per_s=None, was=250.0)
    history = (done(CAP, Cause.IO_STALL),)
    assert asks(seen(found(Cause.IO_STALL), link=CAPPED, series=(steps(2.0),), history=history)) == [lift, GIVE]


def test_no_cap_outlives_the_record_of_it() -> None:
    old = (done(CAP, Cause.IO_STALL, ago=43_200.0),)
    (lift, *_) = asks(seen(found(Cause.IO_STALL), link=CAPPED, history=old))
    assert isinstance(lift, LimitBandwidth) and lift.bytes_per_s is None


# -- moving ------------------------------------------------------------------------------------------------------------


PROOF = Checkpoint(id="c1", run_id="train-1", at=NOW - 30.0, read_at=NOW - 5.0, verified=True)
HOT = found(Cause.CPU_CONTENTION, subject="host:n0")


@pytest.mark.parametrize(
    ("one", "wish"),
    [
        pytest.param(
            job("train", checkpoint=PROOF),
            Migrate(job="train", run_id="train-1", on_nodes=("n0",), to_nodes=("n1",), checkpoint="c1", gpus=2),
            id="half of an hour gained, 90 s lost: it moves, on a fresh proof",
        ),
        pytest.param(
            job("train", checkpoint=replace(PROOF, read_at=NOW - 60.0)), RequestCheckpoint(job="train", run_id="train-1"),
            id="without a fresh proof one is asked for first",
        ),
        pytest.param(
            job("train", checkpoint=replace(PROOF, verified=False)), RequestCheckpoint(job="train", run_id="train-1"),
            id="an unverified proof is none",
        ),
        pytest.param(
            job("train", checkpoint=replace(PROOF, verified=False, reading=True)), replace(MORE, value=2.0),
            id="a fresh one is still being read: another one would begin that anew",
        ),
        pytest.param(
            job("train", checkpoint=replace(PROOF, at=NOW - 1000.0), runtime_s=20_000.0),
            RequestCheckpoint(job="train", run_id="train-1"), id="an old one, however freshly read: a new one first",
        ),
        pytest.param(
            job("train", checkpoint=replace(PROOF, at=NOW - 40.0), checkpoint_requested_at=NOW - 20.0),
            replace(MORE, value=2.0), id="one was asked for that has not come: the one before it is no answer",
        ),
        pytest.param(job("train", checkpoint=PROOF, gang="g"), replace(MORE, value=2.0), id="whole gangs only"),
        pytest.param(job("train", checkpoint=PROOF, protected=True), replace(MORE, value=2.0), id="else refused for ever"),
        pytest.param(job("train", checkpoint=PROOF, lender="b"), replace(MORE, value=2.0), id="it may have to go anyway"),
        pytest.param(job("train", checkpoint=PROOF, gpu_type="H100"), replace(MORE, value=2.0), id="no GPU of its kind there"),
        pytest.param(job("train", checkpoint=PROOF, runtime_s=7300.0), replace(MORE, value=2.0), id="nearly done"),
        pytest.param(job("train", checkpoint=PROOF, gpus=5), replace(MORE, value=2.0), id="no other node has room"),
        pytest.param(job("train", checkpoint=PROOF, nodes=("n0", "n1")), replace(MORE, value=2.0), id="spans nodes"),
    ],
)  # fmt: skip
def test_a_job_moves_only_where_that_gains_more_than_it_loses(one: Job, wish: Action) -> None:
    assert asks(seen(HOT, jobs=(one,))) == [wish]


def test_nobody_is_capped_below_what_it_was_promised() -> None:
    promised = replace(DISK, shares=(Share(owner="job/hog", guarantee_bytes_per_s=400.0),))
    assert asks(seen(found(Cause.IO_STALL), link=promised)) == [replace(CAP, bytes_per_s=400.0)]
    held = replace(DISK, shares=(Share(owner="job/hog", guarantee_bytes_per_s=400.0, cap_bytes_per_s=400.0),))
    assert asks(seen(found(Cause.IO_STALL), link=held)) == [GIVE]


def test_a_link_that_carries_nothing_is_not_divided() -> None:
    dead = replace(DISK, capacity_bytes_per_s=0.0)
    assert [one.kind for one in asks(seen(found(Cause.IO_STALL), link=dead))] == ["tune_job"]


def test_after_a_move_nothing_else_is_tried_until_its_effect_shows() -> None:
    move = Migrate(job="train", run_id="train-0", on_nodes=("n1",), to_nodes=("n0",), checkpoint="c0", gpus=2)
    assert asks(seen(HOT, jobs=(TRAIN,), history=(done(move, Cause.CPU_CONTENTION, ago=100.0),))) == []


@pytest.mark.parametrize(("starts_at", "moves"), [(None, False), (NOW - 60.0, False), (NOW + 60.0, True)])
def test_no_job_moves_to_what_is_held_for_another(starts_at: float | None, moves: bool) -> None:
    hold = Reservation(
        name="h", owner="other", state=HoldState.HELD, fence=1, created_at=NOW, expires_at=NOW + 30.0, hard_cap_at=NOW + 900.0,
        nodes=("n1",), gpus=3, starts_at=starts_at,
    )  # fmt: skip
    (wish,) = asks(seen(HOT, jobs=(job("train", checkpoint=PROOF),), reservations=(hold,)))
    assert isinstance(wish, Migrate) is moves


# -- never more GPUs ---------------------------------------------------------------------------------------------------


@given(
    cause=st.sampled_from(sorted(Cause)),
    confidence=st.floats(0, 1),
    priority=st.integers(0, 9),
    knob=st.floats(0, 32),
    subject=st.sampled_from(["disk:n0/sda", "host:n0", "job:hog", "link:disk", ""]),
)
def test_whatever_is_found_no_gpu_is_added_and_every_knob_stays_in_bounds(
    cause: Cause, confidence: float, priority: int, knob: float, subject: str
) -> None:
    bounded = replace(WORKERS, value=min(max(knob, 1.0), 16.0))
    jobs = (job("train", knobs=(bounded,), checkpoint=PROOF), replace(HOG, priority=priority))
    for action in asks(seen(found(cause, confidence=confidence, subject=subject), jobs=jobs)):
        assert not isinstance(action, ScaleService | ScalePool)
        assert not isinstance(action, TuneJob) or bounded.least <= action.value <= bounded.most


# -- learning ----------------------------------------------------------------------------------------------------------


LEARNING = Remedy.from_settings({"learn": True}, "test")


def tries(arm_gain: dict[str, float], cause: Cause = Cause.IO_STALL, each: int = 3) -> list[bandit.Try]:
    return [bandit.Try(arm=arm, cause=cause, value=4.0, gained=g) for arm, g in arm_gain.items() for _ in range(each)]


def test_what_helped_under_a_cause_comes_first_and_without_experience_the_given_order_stays() -> None:
    arms = ("loader_up", "loader_down")
    assert bandit.ordered(arms, [], Cause.IO_STALL, 4.0) == arms
    learnt = tries({"loader_up": -0.3, "loader_down": 0.4})
    assert bandit.ordered(arms, learnt, Cause.IO_STALL, 4.0) == ("loader_down", "loader_up")
    mixed = [*learnt, *tries({"loader_up": 0.6, "loader_down": -0.4}, Cause.PREP_STALL)]
    assert bandit.ordered(arms, mixed, Cause.PREP_STALL, 4.0)[0] == "loader_up"
    assert bandit.ordered(arms, mixed, Cause.IO_STALL, 4.0)[0] == "loader_down"


def test_a_little_known_arm_is_tried_before_one_that_is_known_to_do_nothing() -> None:
    assert (
        bandit.ordered(("loader_up", "loader_down"), tries({"loader_up": 0.0}, each=20), Cause.IO_STALL, 4.0)[0]
        == "loader_down"
    )


def test_the_bandit_learns_a_simulated_worlds_best_knob() -> None:
    """Regret: in a world where fewer loaders help under io_stall and more under prep_stall, mistakes end."""
    truth = {(Cause.IO_STALL, "loader_down"): 0.3, (Cause.PREP_STALL, "loader_up"): 0.3}
    known: list[bandit.Try] = []
    right = []
    for turn in range(60):
        cause = (Cause.IO_STALL, Cause.PREP_STALL)[turn % 2]
        arm = bandit.ordered(("loader_up", "loader_down"), known, cause, 4.0)[0]
        known.append(bandit.Try(arm=arm, cause=cause, value=4.0, gained=truth.get((cause, arm), -0.1)))
        right.append((cause, arm) in truth)
    assert sum(right) >= 50 and sum(right[30:]) >= 28  # chance would be 30 of 60, 15 of 30


def test_learning_only_reorders_knobs_and_is_replayable() -> None:
    """Twice more loaders made it worse, measured: with learning fewer are tried; the bounds and the record are the same."""
    early = done(MORE, Cause.PREP_STALL, ago=3700.0, id="a1")
    series = replace(
        steps(2.0), times=np.arange(NOW - 7200.0, NOW + 1, 30.0),
        values=np.where(np.arange(NOW - 7200.0, NOW + 1, 30.0) > NOW - 3700.0, 3.0, 2.0),
    )  # fmt: skip
    snapshot = seen(found(Cause.PREP_STALL, subject="host:n0"), jobs=(TRAIN,), series=(series,), history=(early,))
    assert asks(snapshot) == [MORE]
    (learnt,) = asks(snapshot, LEARNING)
    assert isinstance(learnt, TuneJob) and learnt.value == 2.0
    assert encode(tuple(LEARNING.decide(decode(Snapshot, encode(snapshot))))) == encode(tuple(LEARNING.decide(snapshot)))


def test_learning_is_off_by_default() -> None:
    assert POLICY.rule.learn is False


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"learn": 1}, "learn"),
        ({"throttle_ratio": 0}, "throttle_ratio"),
        ({"retry_s": "1m"}, "retry_s"),
        ({"longest_s": "2d"}, "longest_s"),
        ({"window_s": "10m"}, "window_s"),  # could never hold what was before a step and what came of it
        ({"loader_knob": ""}, "loader_knob"),
        ({"what": 1}, "what"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_their_path(section: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        Remedy.from_settings(section, "aiops.yaml")
    assert error.value.key == f"policies.remedy.{key}"
