"""What slurmctld's answers mean, in tables: no server needed."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.backends.slurm import gres, marks, rows
from aiops.backends.slurm.hostlist import expand
from aiops.backends.slurm.picture import job_state, node_state, room_would_start
from aiops.backends.slurm.rows import JobRow, NodeRow
from aiops.model import JobState, NodeState


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("gpu1", ("gpu1",)),
        ("gpu[1-3,07],login1", ("gpu1", "gpu2", "gpu3", "gpu07", "login1")),
        ("r[1-2]n[08-09]", ("r1n08", "r1n09", "r2n08", "r2n09")),
        ("(null)", ()),
        ("", ()),
    ],
)
def test_host_lists_open(text: str, names: tuple[str, ...]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize("text", ["gpu[1-3", "a;b", "gpu[1-999999999]", "gpu[x]", "$(x)", "a b", "r[1-900]n[1-900]"])
def test_what_is_no_host_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        expand(text)


@given(st.text(max_size=60))
def test_host_lists_of_any_text_are_plain_names_or_refused(text: str) -> None:
    try:
        found = expand(text)
    except ValueError:
        return
    assert all(name and not set(name) & set(" =,[]$;'\"\n") for name in found)


@pytest.mark.parametrize(
    ("text", "expected", "why"),
    [
        ("cpu=4,mem=100M,node=1,gres/gpu=8", (8, ""), "plain"),
        ("cpu=4,gres/gpu:h200=8,gres/gpu=8", (8, "h200"), "the typed row is part of the total, not beside it"),
        ("gres/gpu:a100=2,gres/gpu:h200=1", (3, "a100"), "typed only"),
        ("cpu=4,gres/gpumem=80", (0, ""), "another resource that begins alike"),
    ],
)
def test_gpus_of_tres(text: str, expected: tuple[int, str], why: str) -> None:
    assert gres.tres_gpus(text) == expected, why


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gres:gpu:h200:8", (8, "h200")),
        ("gres:gpu:2", (2, "")),
        ("gres/gpu:h200=3", (3, "h200")),
        ("gpu:h200:3(IDX:0-1,5)", (3, "h200")),
        ("gpu", (1, "")),
        ("", (0, "")),
        ("N/A", (0, "")),
    ],
)
def test_gpus_asked_for(text: str, expected: tuple[int, str]) -> None:
    assert gres.asked_gpus(text) == expected


def test_indices_and_licences() -> None:
    assert gres.indices("gpu:h200:3(IDX:0-1,5)") == (0, 1, 5)
    assert gres.indices("gpu:h200:0(IDX:N/A)") == ()
    assert gres.licences("net_gbps:10,matlab") == {"net_gbps": 10, "matlab": 1}
    assert gres.licences("(null)") == {}


OLD = {
    "job_id": 7, "submit_time": 1000, "restart_cnt": 2, "job_state": "RUNNING", "nodes": "gpu[1-2]", "node_count": 2,
    "array_job_id": 5, "array_task_id": 0, "cpus": 4, "priority": 9, "user_name": "ann", "partition": "train",
    "gres_detail": ["gpu:h200:2(IDX:0-1)", "gpu:h200:1(IDX:7)"], "licenses": "net_gbps:10", "time_limit": 60,
    "start_time": 1010, "memory_per_node": 100, "suspend_time": 0, "het_job_id": 0,
}  # fmt: skip


def number(value: int) -> dict[str, object]:
    return {"set": True, "infinite": False, "number": value}


NEW = OLD | {
    "job_state": ["RUNNING"], "array_job_id": number(5), "array_task_id": number(0), "cpus": number(4), "priority": number(9),
    "submit_time": number(1000), "time_limit": number(60), "start_time": number(1010), "memory_per_node": number(100),
    "node_count": number(2), "suspend_time": number(0), "het_job_id": number(0),
}  # fmt: skip


def test_json_of_old_and_new_versions_is_the_same_job() -> None:
    old, new = rows.job(OLD), rows.job(orjson.loads(orjson.dumps(NEW)))
    assert old == new
    assert (old.run_id, old.address, old.gpus, old.gpu_type) == ("1000-2", "5_0", 3, "h200")
    assert old.gpu_ids == (("gpu1", 0), ("gpu1", 1), ("gpu2", 7))


def test_what_is_not_set_is_not_a_number() -> None:
    unset = {"set": False, "infinite": False, "number": 0}
    for value in (unset, {"set": True, "infinite": True, "number": 0}, None, 4294967294, True, "7"):
        assert rows.number(value, -1.0) == -1.0
    assert rows.job(OLD | {"array_job_id": unset, "array_task_id": unset}).address == "7"


@pytest.mark.parametrize("raw", [{}, {"job_id": 1}, {"job_id": "x", "submit_time": 1, "job_state": "RUNNING"}])
def test_half_a_job_is_no_job(raw: dict[str, object]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        rows.job(raw)


@pytest.mark.parametrize(
    ("states", "reason", "expected"),
    [
        ("RUNNING", "", JobState.RUNNING),
        ("RUNNING+CONFIGURING", "", JobState.STARTING),
        ("PENDING", "Priority", JobState.QUEUED),
        ("PENDING", "JobHeldAdmin", JobState.HELD),
        ("RUNNING+COMPLETING", "", JobState.STOPPING),
        ("PREEMPTED", "", JobState.STOPPING),  # Slurm's own preemption is seen as such, and not fought
        ("SUSPENDED", "", JobState.SUSPENDED),
        ("OUT_OF_MEMORY", "", JobState.FAILED),
        ("A_STATE_OF_NEXT_YEAR", "", JobState.STOPPING),  # not understood: nothing may be done to it
    ],
)
def test_states_of_jobs(states: str, reason: str, expected: JobState) -> None:
    assert job_state(JobRow(id=1, submit=1.0, restarts=0, states=frozenset(states.split("+")), reason=reason)) is expected


@pytest.mark.parametrize(
    ("reason", "starts"),
    [
        ("None", True),  # not looked at yet
        ("Resources", True),
        ("Priority", True),
        ("Nodes required for job are DOWN, DRAINED or reserved", True),  # squeue's description of a want of nodes
        ("A_REASON_OF_NEXT_YEAR", True),
        ("Dependency", False),
        ("DependencyNeverSatisfied", False),
        ("BeginTime", False),
        ("Licenses", False),
        ("JobArrayTaskLimit", False),
        ("QOSMaxGRESPerUser", False),
        ("AssocGrpGRESMinutes", False),
        ("AssociationJobLimit", False),
        ("PartitionTimeLimit", False),
        ("BadConstraints", False),
        ("ReqNodeNotAvail, Reserved for maintenance", False),  # no run is stopped for what waits for a window to pass
        ("ReqNodeNotAvail, UnavailableNodes:n[1-4]", False),
        ("Reservation", False),
        ("NodeDown", False),
        ("BurstBufferStageIn", False),
    ],
)
def test_whether_free_nodes_would_start_a_waiting_job(reason: str, starts: bool) -> None:
    assert room_would_start(reason) is starts


@pytest.mark.parametrize(
    ("states", "reason", "expected"),
    [
        ("IDLE", "", NodeState.READY),
        ("IDLE+DRAIN", "", NodeState.CORDONED),
        ("MIXED+DRAIN", "", NodeState.DRAINING),
        ("MIXED+DRAIN", "hot (aiops cordon a1)", NodeState.CORDONED),
        ("DOWN", "", NodeState.DOWN),
        ("IDLE+NOT_RESPONDING", "", NodeState.DOWN),
        ("IDLE+CLOUD+POWERED_DOWN", "", NodeState.OFF),
        ("IDLE+CLOUD", "", NodeState.READY),
    ],
)
def test_states_of_nodes(states: str, reason: str, expected: NodeState) -> None:
    row = NodeRow(name="n", address="a", states=frozenset(states.split("+")), reason=reason)
    assert node_state(row) is expected


def test_marks_keep_what_administrators_wrote() -> None:
    first = marks.job_comment("ticket 12", "a1", 1000.0)
    assert first == "ticket 12 aiops=a1@1000" and marks.marked(first, "a1") == 1000.0
    second = marks.job_comment(first, "a2", 2000.0)
    assert second == "ticket 12 aiops=a2@2000" and marks.marked(second, "a1") is None
    assert marks.marked("aiops=a10@5", "a1") is None
    assert marks.fence_of(marks.hold_name("peak", 7), "peak") == 7 and marks.fence_of("aiops-h-peak2-f7", "peak") is None
    with pytest.raises(ValueError):
        marks.hold_name("x Flags=MAINT", 1)


@pytest.mark.parametrize(("text", "seconds"), [("00:01:00", 60.0), ("1-00:00:01", 86401.0), ("NONE", 0.0), ("(null)", 0.0)])
def test_durations(text: str, seconds: float) -> None:
    assert rows.duration(text) == seconds
