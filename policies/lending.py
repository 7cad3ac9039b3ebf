"""Which waiting jobs run on whose idle share, and where: a packing problem, solved greedily or by CP-SAT (policy.md 32).

Both see the same `Problem` and answer with `Loan`s; the better answer counts, by `worth`. Deterministic: the solver has a limit
in its own deterministic seconds, one worker and a fixed seed, so that a replayed decision gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiops.model import Job, TaskClass
from policies.placing import ROUNDING, Floor

SEED = 1
FAIRNESS = 1000
"""A GPU that starts to work is worth this much, and one more per minute that its job has waited, up to half of it."""


PLACES = 4_000
"""Places that the solver looks at, over all jobs: beyond that, building the model alone takes longer than the plan may."""


@dataclass(frozen=True, slots=True)
class Loan:
    """One job on a lender's share, on these nodes."""

    job: Job
    lender: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Who may borrow, in order of importance, what each lender has idle, and the floor."""

    jobs: Sequence[Job]
    idle: Mapping[str, int]
    floor: Floor
    now: float

    def worth(self, job: Job) -> int:
        """What it is worth that this job runs: its GPUs, more for who has waited longer."""
        minutes = min(max(0.0, self.now - job.submitted_at) / 60, FAIRNESS / 2)
        return job.gpus * (FAIRNESS + int(minutes))

    def total(self, loans: Sequence[Loan]) -> int:
        """What a whole answer is worth."""
        return sum(self.worth(loan.job) for loan in loans)


def plan(problem: Problem, effort_s: float) -> list[tuple[Loan, str]]:
    """Loans and who found each: priorities one after the other, the highest first, each on what those before it left."""
    floor = problem.floor.copy()
    idle, found = dict(problem.idle), list[tuple[Loan, str]]()
    for priority in sorted({job.priority for job in problem.jobs}, reverse=True):
        level = [job for job in problem.jobs if job.priority == priority]
        loans, by = best(Problem(level, idle, floor, problem.now), effort_s)
        for loan in loans:
            floor.take(loan.job, loan.nodes)
            idle[loan.lender] -= loan.job.gpus
        found += [(loan, by) for loan in loans]
    return found


def best(problem: Problem, effort_s: float) -> tuple[list[Loan], str]:
    """The better of the greedy and the solver's answer, and who found it. `effort_s` is in deterministic seconds."""
    quick = greedy(problem)
    if len(quick) == len(problem.jobs) or effort_s <= 0:
        return quick, "greedy"
    solved = solve(problem, quick, effort_s)
    return (solved, "CP-SAT") if solved is not None and problem.total(solved) > problem.total(quick) else (quick, "greedy")


def greedy(problem: Problem) -> list[Loan]:
    """In order of importance; each on the lender with the least idle that suffices, so that large shares stay whole."""
    floor = problem.floor.copy()
    idle, loans = dict(problem.idle), []
    for job in problem.jobs:
        lenders = sorted((left, name) for name, left in idle.items() if left >= job.gpus and name != job.queue)
        nodes = floor.place(job) if lenders else None
        if nodes is not None:
            floor.take(job, nodes)
            idle[lenders[0][1]] -= job.gpus
            loans.append(Loan(job, lenders[0][1], nodes))
    return loans


def solve(problem: Problem, hint: Sequence[Loan], effort_s: float) -> list[Loan] | None:
    """The packing of greatest worth that CP-SAT finds within `effort_s`; None without ortools or without an answer."""
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        return None
    model = cp_model.CpModel()
    places = _places(model, problem, {loan.job.id: loan.nodes for loan in hint})
    lenders = {
        (i, name): model.new_bool_var("")
        for i, job in enumerate(problem.jobs)
        for name, left in sorted(problem.idle.items())
        if left >= job.gpus and name != job.queue
    }
    _bind(model, problem, places, lenders)
    _suggest(model, problem, (places, lenders), hint)
    suits = [_suits(problem, job) for job in problem.jobs]
    worth = [100 * problem.worth(job) for job in problem.jobs]  # a grain more where it suits the place, among equals
    model.maximize(
        sum(
            (worth[i] + suits[i].index(problem.floor.mismatch(problem.jobs[i], key[0]))) * var
            for (i, key), var in places.items()
        )
    )
    solver = cp_model.CpSolver()
    solver.parameters.max_deterministic_time = effort_s
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = SEED
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    by = {i: name for (i, name), var in lenders.items() if solver.boolean_value(var)}
    return [Loan(problem.jobs[i], by[i], key) for (i, key), var in places.items() if solver.boolean_value(var)]


Places = dict[tuple[int, tuple[str, ...]], Any]
Lenders = dict[tuple[int, str], Any]


def _places(model: Any, problem: Problem, hint: Mapping[str, tuple[str, ...]]) -> Places:
    """A variable per job and place: the nodes with the closest fit, or blocks of whole empty nodes; and the hint's."""
    places: Places = {}
    most = max(1, PLACES // len(problem.jobs))
    for i, job in enumerate(problem.jobs):
        sizes, free = problem.floor.of_type(job.gpu_type), problem.floor.free
        keys: list[tuple[str, ...]] = [(name,) for name in sizes if problem.floor.carries(name, job)]
        if all(size < job.gpus for size in sizes.values()):
            keys = problem.floor.blocks(job)
        keys.sort(key=lambda key, job=job: (problem.floor.mismatch(job, key[0]), free[key[0]], key))  # type: ignore[misc]
        kept = [*_spread(keys, most, i), *([hint[job.id]] if job.id in hint else [])]
        places |= {(i, key): model.new_bool_var("") for key in dict.fromkeys(kept)}
    return places


def _spread(keys: list[tuple[str, ...]], most: int, turn: int) -> list[tuple[str, ...]]:
    """The closest half of `most` places and as many of the rest, others for each `turn`: not all are offered the same few."""
    if len(keys) <= most:
        return keys
    near, far = keys[: most // 2], keys[most // 2 :]
    step = -(-len(far) // (most - len(near)))
    return near + far[turn % step :: step]


def _bind(model: Any, problem: Problem, places: Places, lenders: Lenders) -> None:
    """Each job at most once and with one lender; no node and no lender beyond what it has."""
    on_node: dict[str, list[Any]] = {}
    of_job: list[list[Any]] = [[] for _ in problem.jobs]
    with_lender: list[list[Any]] = [[] for _ in problem.jobs]
    for (i, key), var in places.items():
        each = -(-problem.jobs[i].gpus // len(key))
        of_job[i].append(var)
        for name in key:
            on_node.setdefault(name, []).append(each * var)
    for (i, _), var in lenders.items():
        with_lender[i].append(var)
    for name, load in on_node.items():
        model.add(sum(load) <= int(problem.floor.free[name] + 1e-9))
    for placed, owed in zip(of_job, with_lender, strict=True):
        model.add_at_most_one(placed)
        model.add(sum(owed) == sum(placed))
    for name, left in problem.idle.items():
        borrowed = [problem.jobs[i].gpus * var for (i, lender), var in lenders.items() if lender == name]
        if borrowed:
            model.add(sum(borrowed) <= left)
    _bind_beside(model, problem, places)


def _bind_beside(model: Any, problem: Problem, places: Places) -> None:
    """No node beyond its cores and memory, in whole thousandths of a core and MiB."""
    loads: dict[tuple[str, int], list[Any]] = {}
    for (i, key), var in places.items():
        job = problem.jobs[i]
        for what, amount in enumerate((1000 * job.cpu_cores, job.memory_bytes / 2**20)):
            each = math.ceil(amount / len(key) - ROUNDING)
            for name in key if each else ():
                loads.setdefault((name, what), []).append(each * var)
    for (name, what), load in loads.items():
        has = problem.floor.left[name][what] * (1000, 2**-20)[what]
        if math.isfinite(has):
            model.add(sum(load) <= math.floor(has + ROUNDING))


def _suggest(model: Any, problem: Problem, variables: tuple[Places, Lenders], hint: Sequence[Loan]) -> None:
    chosen = {loan.job.id: loan for loan in hint}
    for (i, key), var in variables[0].items():
        loan = chosen.get(problem.jobs[i].id)
        model.add_hint(var, loan is not None and loan.nodes == key)
    for (i, name), var in variables[1].items():
        loan = chosen.get(problem.jobs[i].id)
        model.add_hint(var, loan is not None and loan.lender == name)


def _suits(problem: Problem, job: Job) -> list[float]:
    """How badly places suit the job, the worst first."""
    if job.task_class is TaskClass.UNKNOWN:
        return [0.0]
    return sorted({problem.floor.mismatch(job, name) for name in problem.floor.of_type(job.gpu_type)}, reverse=True)
