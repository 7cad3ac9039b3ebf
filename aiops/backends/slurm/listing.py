"""squeue's list of jobs as text with a separator that nobody can know beforehand. Pure but for drawing that separator.

`squeue --json` of 10,000 jobs costs squeue itself 1.3 s of processor time and has no single-job form before 23.02; the same
list as text costs 0.1 s. A user may put anything into a job's name, so fields are told apart by a word drawn for each question
and handed over in the environment, not on the command line, where other users could read it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

from aiops.backends.slurm import gres
from aiops.backends.slurm.hostlist import expand
from aiops.backends.slurm.rows import JobRow, duration

FIELDS = (
    "JobID", "ArrayJobID", "ArrayTaskID", "HetJobID", "State", "Reason", "SubmitTime", "StartTime", "RestartCnt",
    "PriorityLong", "Nice", "NodeList", "ReqNodes", "Partition", "UserName", "Account", "QOS", "NumCPUs", "NumNodes",
    "NumTasks", "tres-alloc", "tres-per-job", "tres-per-node", "tres-per-task", "Licenses", "TimeLimit", "BatchFlag",
    "exit_code", "admin_comment", "Name",
)  # fmt: skip
_MEMORY = re.compile(r"(?:^|,)mem=([0-9.]+)([KMGTP]?)")
_UNIT = {"": 2**20, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}  # Slurm's plain numbers are MiB
_COUNT = re.compile(r"([0-9.]+)([KM]?)")
_THOUSAND = {"": 1, "K": 2**10, "M": 2**20}  # squeue writes 2048 CPUs as 2K
_NONE = ("", "N/A", "(null)", "None", "Unknown")
# one job's GPUs on nodes that have the same indices, as `scontrol -d -o show job` prints them
_RECORD = re.compile(rb"^JobId=([0-9]+) ", re.M)
_GIVEN = re.compile(rb" Nodes=(\S+) CPU_IDs=\S* Mem=[0-9]+ GRES=(\S*\(IDX:[0-9,\-]+\)\S*)")
Indices = tuple[tuple[str, int], ...]


def separator() -> str:
    """A word that stands between fields of one answer only."""
    return f"|{os.urandom(9).hex()}|"


def form(between: str) -> dict[str, str]:
    """What tells squeue to print `FIELDS`, each followed by `between`; in its environment."""
    return {"SQUEUE_FORMAT2": ",".join(f"{field}:{between}" for field in FIELDS)}


def jobs(text: str, between: str) -> tuple[JobRow, ...]:
    """All records of an answer with its header. ValueError where it is not whole, or not squeue's."""
    cells = text.split(between)
    width = len(FIELDS)
    if len(cells) <= width or len(cells) % width != 1 or cells[-1].strip() or cells[0].upper() != "JOBID":
        raise ValueError("squeue: not a whole list of jobs")
    starts = range(width, len(cells) - 1, width)
    return tuple(_row(dict(zip(FIELDS, cells[start : start + width], strict=True))) for start in starts)


def _row(cell: Mapping[str, str]) -> JobRow:
    task, array = cell["ArrayTaskID"], cell["ArrayTaskID"] not in _NONE
    nodes = expand(cell["NodeList"])
    gpus, kind = _gpus(cell)
    return JobRow(
        id=int(cell["JobID"]), submit=time(cell["SubmitTime"]) or 0.0, restarts=int(cell["RestartCnt"]),
        states=frozenset({cell["State"]}), reason=_reason(cell), array_job=int(cell["ArrayJobID"]) if array else 0,
        array_task=int(task) if task.isdigit() else None, unsplit=array and not task.isdigit(),
        het=cell["HetJobID"] not in (*_NONE, "0"), batch=cell["BatchFlag"] == "1", name=cell["Name"],
        user=_text(cell["UserName"]), account=_text(cell["Account"]), qos=_text(cell["QOS"]), partition=cell["Partition"],
        start=time(cell["StartTime"]), priority=int(cell["PriorityLong"]), nice=int(cell["Nice"] or 0), nodes=nodes,
        required_nodes=expand(cell["ReqNodes"]), gpus=gpus, gpu_type=kind, cpus=_number(cell["NumCPUs"]),
        memory_bytes=_memory(cell["tres-alloc"]), licences=tuple(sorted(gres.licences(_text(cell["Licenses"])).items())),
        limit_s=duration(cell["TimeLimit"]) or None, admin_comment=_text(cell["admin_comment"]),
        ended_by=_signal(cell["exit_code"]),
    )  # fmt: skip


def _reason(cell: Mapping[str, str]) -> str:
    """Squeue shows a description in place of the reason where there is one; held is what has no priority, whatever it says."""
    reason = _text(cell["Reason"])
    held = cell["State"] == "PENDING" and cell["PriorityLong"] == "0" and "held" not in reason.lower()
    return f"{reason} (held)" if held else reason


def _gpus(cell: Mapping[str, str]) -> tuple[int, str]:
    """(count, type): what Slurm accounts for where it accounts GPUs, else what is asked for in any of the three ways."""
    count, kind = gres.tres_gpus(cell["tres-alloc"])
    times = {"tres-per-job": 1.0, "tres-per-node": _number(cell["NumNodes"]), "tres-per-task": _number(cell["NumTasks"])}
    for field, factor in times.items():
        if not count:
            one, kind = gres.asked_gpus(_text(cell[field]))
            count = int(one * max(factor, 1.0))
    return count, kind


def given(text: bytes, rows: Sequence[JobRow]) -> dict[int, Indices]:
    """(node, index) of each run's GPUs, from `scontrol -d -o show job`; a job is left out where the text is not plainly its.

    Here a user's text can imitate a record. So what is found is taken only where it is exactly as many GPUs as the job has, on
    its own nodes and each of them once: an imitation adds to what is found, and hides indices instead of claiming any.
    """
    wanted = {row.id: row for row in rows}
    found: dict[int, list[tuple[str, int]]] = {}
    marks = [(match.start(), int(match[1])) for match in _RECORD.finditer(text)]
    for (start, id), (end, _) in pairwise([*marks, (len(text), 0)]):
        if id in wanted:
            found.setdefault(id, []).extend(_indices(text[start:end]))
    return {id: tuple(ids) for id, ids in found.items() if ids and _plain(wanted[id], ids)}


def _indices(record: bytes) -> Iterable[tuple[str, int]]:
    for nodes, text in _GIVEN.findall(record):
        indices = gres.indices(text.decode("ascii", "replace"))
        yield from ((node, index) for node in expand(nodes.decode("ascii", "replace")) for index in indices)


def _plain(row: JobRow, ids: Sequence[tuple[str, int]]) -> bool:
    return len(ids) == row.gpus and {node for node, _ in ids} <= set(row.nodes) and max(Counter(ids).values()) == 1


@lru_cache(maxsize=4096)
def _memory(tres: str) -> float:
    found = _MEMORY.search(tres)
    return float(found[1]) * _UNIT[found[2]] if found else 0.0


def _number(text: str) -> float:
    found = _COUNT.match(text)  # of a range (a pending job may say 2-4) the lower end
    return float(found[1]) * _THOUSAND[found[2]] if found else 0.0


def _signal(text: str) -> int | None:
    """The signal in an exit code, which is waitpid's status, or `status:signal` as other programs of Slurm print it."""
    status, colon, signal = text.partition(":")
    if not status.isdigit() or (colon and not signal.isdigit()):
        return None
    exited, number = (int(status), int(signal)) if colon else (int(status) >> 8, int(status) & 0x7F)
    return number if number and not exited else None


def _text(text: str) -> str:
    return "" if text in ("N/A", "(null)") else text


def time(text: str) -> float | None:
    """Unix seconds, where there are any."""
    return float(text) if text.isdigit() and int(text) else None
