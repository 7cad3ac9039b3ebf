"""squeue's list as text: whole or refused, and nothing in it that a user can pose as."""

from collections.abc import Mapping

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from aiops.backends.slurm import listing
from aiops.backends.slurm.rows import JobRow, node_shown

PLAIN = {
    "JobID": "7", "ArrayJobID": "5", "ArrayTaskID": "0", "HetJobID": "N/A", "State": "RUNNING", "Reason": "None",
    "SubmitTime": "1000", "StartTime": "1010", "RestartCnt": "2", "PriorityLong": "9", "Nice": "5", "NodeList": "gpu[1-2]",
    "ReqNodes": "", "Partition": "train", "UserName": "ann", "Account": "(null)", "QOS": "normal", "NumCPUs": "2K",
    "NumNodes": "2", "NumTasks": "2", "tres-alloc": "cpu=4,mem=1.50G,node=2", "tres-per-job": "N/A",
    "tres-per-node": "gres:gpu:h200:2", "tres-per-task": "N/A",
    "Licenses": "net_gbps:10", "TimeLimit": "1-02:00:00", "BatchFlag": "1", "exit_code": "0",
    "admin_comment": "(null)", "Name": "job.sh",
}  # fmt: skip
BAR = "|x|"


def answer(*rows: Mapping[str, str], between: str = BAR) -> str:
    lines = [listing.FIELDS, *([{**PLAIN, **row}[field] for field in listing.FIELDS] for row in rows)]
    return "".join("".join(cell + between for cell in (line[0].upper(), *line[1:])) + "\n" for line in lines)


def test_a_record_is_read_whole() -> None:
    (row,) = listing.jobs(answer({}), BAR)
    assert (row.id, row.run_id, row.address, row.gpus, row.gpu_type) == (7, "1000-2", "5_0", 4, "h200")
    assert (row.cpus, row.memory_bytes, row.limit_s, row.nice) == (2048, 1.5 * 2**30, 26 * 3600.0, 5)
    assert row.licences == (("net_gbps", 10),) and row.account == "" and row.nodes == ("gpu1", "gpu2")


@pytest.mark.parametrize(
    ("text", "signal", "why"),
    [
        ("15", 15, "waitpid's status, as squeue prints it: ended by SIGTERM"),
        ("137", 9, "with a core: the signal is in the lower seven bits"),
        ("3840", None, "exit 15 is a program's own word, not a signal"),
        ("36608", None, "exit 143: a shell's word about its child"),
        ("0", None, "well, or not over"),
        ("0:15", 15, "as scontrol prints it"),
        ("15:0", None, "exit 15, as scontrol prints it"),
        ("1:9", None, "a status and the signal of one of its steps: not plainly a signal"),
        ("N/A", None, "not told"),
        ("", None, "not told"),
        ("-1", None, "no status"),
    ],
)
def test_what_ended_a_run(text: str, signal: int | None, why: str) -> None:
    (row,) = listing.jobs(answer({"exit_code": text}), BAR)
    assert row.ended_by == signal, why


@pytest.mark.parametrize(
    ("changes", "gpus", "why"),
    [
        ({"tres-per-node": "N/A", "tres-per-task": "gres:gpu:1"}, 2, "per task"),
        ({"tres-per-node": "N/A", "tres-per-job": "gres:gpu:a100:3"}, 3, "per job"),
        ({"tres-alloc": "cpu=4,gres/gpu=8", "tres-per-node": "gres:gpu:1"}, 8, "what is accounted goes before what was asked"),
        ({"tres-per-node": "N/A"}, 0, "none"),
        ({"NumNodes": "2-4"}, 4, "of a range the lower end"),
    ],
)
def test_gpus_however_asked_for(changes: dict[str, str], gpus: int, why: str) -> None:
    assert listing.jobs(answer(changes), BAR)[0].gpus == gpus, why


@pytest.mark.parametrize(
    ("reason", "priority", "held", "why"),
    [
        ("JobHeldAdmin", "0", True, "by an administrator"),
        ("job_requeued_in_held_state", "0", True, "a description in place of the reason"),
        ("something_else", "0", True, "without a priority nothing ever starts"),
        ("Priority", "9", False, "waiting"),
    ],
)
def test_what_is_held(reason: str, priority: str, held: bool, why: str) -> None:
    row = listing.jobs(answer({"State": "PENDING", "Reason": reason, "PriorityLong": priority}), BAR)[0]
    assert row.held is held and row.reason.startswith(reason), why


def test_an_empty_cluster_has_a_header_and_no_answer_has_none() -> None:
    assert listing.jobs(answer(), BAR) == ()
    for text in ("", "\n", answer({})[:-9], answer({})[1:], answer({}) + "7", answer({}).replace("JOBID", "JOB", 1)):
        with pytest.raises(ValueError):
            listing.jobs(text, BAR)


@drawn(st.text(max_size=80), st.text(max_size=80))
def test_a_name_is_a_name_whatever_stands_in_it(name: str, comment: str) -> None:
    between = listing.separator()
    rows = listing.jobs(answer({"Name": name, "admin_comment": comment}, {"JobID": "8"}, between=between), between)
    assert [row.id for row in rows] == [7, 8] and rows[0].name == name


def test_separators_are_never_the_same_and_fields_name_them() -> None:
    assert len({listing.separator() for _ in range(100)}) == 100
    assert listing.form("|z|")["SQUEUE_FORMAT2"].startswith("JobID:|z|,ArrayJobID:|z|,")


def job(id: int, gpus: int, *nodes: str) -> JobRow:
    return JobRow(id=id, submit=1.0, restarts=0, states=frozenset({"RUNNING"}), gpus=gpus, nodes=nodes)


def shown(id: int, nodes: str, gres: str, name: str = "x") -> str:
    return f"JobId={id} JobName={name} JobState=RUNNING   Nodes={nodes} CPU_IDs=0-1 Mem=100 GRES={gres} MinCPUsNode=1 \n"


TRUE = shown(1, "gpu1", "gpu:h200:2(IDX:0-1)") + shown(2, "gpu[2-3]", "gpu:h200:1(IDX:5)")


@pytest.mark.parametrize(
    ("text", "found", "why"),
    [
        (TRUE, {1: (("gpu1", 0), ("gpu1", 1)), 2: (("gpu2", 5), ("gpu3", 5))}, "as they are"),
        (
            shown(1, "gpu1", "gpu:h200:2(IDX:0-1)", "x\nJobId=2 Nodes=gpu2 CPU_IDs=0 Mem=1 GRES=gpu:1(IDX:0) ")
            + shown(2, "gpu[2-3]", "gpu:h200:1(IDX:5)"),
            {},
            "a name that imitates another's record: neither is believed",
        ),
        (shown(1, "gpu1", "gpu:h200:2(IDX:0-1)", "y Nodes=gpu1 CPU_IDs=0 Mem=1 GRES=gpu:2(IDX:6-7)"), {}, "more than it has"),
        (shown(1, "gpu9", "gpu:h200:2(IDX:0-1)"), {}, "not its node"),
        (shown(1, "gpu1", "gpu:h200(CNT:2)"), {}, "a GPU without a device file has no index"),
        ("", {}, "nothing"),
    ],
)
def test_gpus_by_index_are_believed_only_where_they_add_up(text: str, found: dict[int, object], why: str) -> None:
    assert listing.given(text.encode(), [job(1, 2, "gpu1"), job(2, 2, "gpu2", "gpu3")]) == found, why


def test_a_node_is_what_slurm_says_and_not_what_a_reason_says() -> None:
    line = (
        "NodeName=gpu1 CPUAlloc=2 CPUTot=8 ActiveFeatures=h200,rackA Gres=gpu:h200:8 NodeAddr=10.0.0.1 Port=6818 OS=Linux 6 #1 "
        "RealMemory=16000 State=DOWN* Partitions=train,urgent  Comment=State=IDLE Reason=check: CPUAlloc=0 State=IDLE [root@x]"
    )
    row = node_shown(line)
    assert row.states == {"DOWN", "NOT_RESPONDING"} and row.allocated_cpus == 2 and row.address == "10.0.0.1:6818"
    assert row.partitions == ("train", "urgent") and row.reason == "check: CPUAlloc=0 State=IDLE [root@x]"
    assert row.memory_bytes == 16000 * 2**20 and row.features == "h200,rackA"
    assert node_shown("NodeName=a State=IDLE+CLOUD+POWERED_DOWN Gres=(null)").states == {"IDLE", "CLOUD", "POWERED_DOWN"}
