"""A genetic algorithm and a particle swarm on the lending problem of policies/lending.py: what CP-SAT is measured against.

Each searches twice. Over orders of the waiting jobs (random keys), decoded as the policy's own greedy placement would: best
fit on the fullest node that has room, whole empty nodes for a larger job, on the lender with the least idle that suffices
(`by_order`: our own heuristic with a search around it). And as the papers do, a gene per job that says where it goes, what does
not fit being left out (`by_place`). Same instance, same CPU seconds. `bound` is what no plan can be worth more than.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from policies.lending import Problem

POPULATION = 40
MUTATION = 0.1
INERTIA, OWN, BEST = 0.7, 1.5, 1.5
Decode = Callable[[np.ndarray], int]


def by_order(problem: Problem) -> Decode:
    """A function from random keys (n,) to the worth of the loans that the order gives; larger jobs take nodes of equal size."""
    names, size = list(problem.floor.free), max(len(node.gpus) for node in problem.floor.nodes.values())
    kinds = {job.gpu_type: np.array([name in problem.floor.of_type(job.gpu_type) for name in names]) for job in problem.jobs}
    asked = [(job.gpus, kinds[job.gpu_type], problem.worth(job)) for job in problem.jobs]
    room, shares = np.array([problem.floor.free[name] for name in names]), np.array(list(problem.idle.values()), dtype=float)

    def decode(keys: np.ndarray) -> int:
        free, idle, total = room.copy(), shares.copy(), 0
        for gpus, fits, worth in (asked[i] for i in np.argsort(keys, kind="stable")):
            lenders = np.where(idle >= gpus, idle, np.inf)
            lender, each = int(lenders.argmin()), min(gpus, size)
            nodes = np.where(fits & (free >= each), free, np.inf)
            chosen = [int(nodes.argmin())] if gpus <= size else np.flatnonzero(np.isfinite(nodes))[: -(-gpus // size)]
            if not np.isfinite(lenders[lender]) or len(chosen) < -(-gpus // size) or not np.isfinite(nodes[chosen]).all():
                continue
            free[chosen] -= each
            idle[lender] -= gpus
            total += worth
        return total

    return decode


def by_place(problem: Problem) -> Decode:
    """A function from genes (n,), one per job, to the worth of the loans that fit, in order of importance.

    A gene picks one of the job's places and lenders, or none: 0 is none, and places of equal size count evenly.
    """
    floor, lenders = problem.floor, list(problem.idle)
    single = [[(name,) for name, size in floor.of_type(job.gpu_type).items() if size >= job.gpus] for job in problem.jobs]
    places = [one or floor.blocks(job) for one, job in zip(single, problem.jobs, strict=True)]
    worth = [problem.worth(job) for job in problem.jobs]

    def decode(keys: np.ndarray) -> int:
        free, idle, total = dict(floor.free), dict(problem.idle), 0
        for job, options, gain, key in zip(problem.jobs, places, worth, np.mod(keys, 1.0), strict=True):
            pick = int(key * (len(options) * len(lenders) + 1)) - 1
            if pick < 0:
                continue
            names, lender = options[pick // len(lenders)], lenders[pick % len(lenders)]
            each = job.gpus / len(names)
            if idle[lender] < job.gpus or lender == job.queue or any(free[name] < each for name in names):
                continue
            for name in names:
                free[name] -= each
            idle[lender] -= job.gpus
            total += gain
        return total

    return decode


DECODERS: dict[str, Callable[[Problem], Decode]] = {"order": by_order, "place": by_place}


def bound(problem: Problem) -> float:
    """What no plan can be worth more than: jobs cut to pieces, all idle shares one share, all nodes one node."""
    left, total = float(min(sum(problem.idle.values()), sum(problem.floor.free.values()))), 0.0
    for job in sorted(problem.jobs, key=lambda job: -problem.worth(job) / job.gpus):
        part = min(1.0, left / job.gpus)
        total, left = total + part * problem.worth(job), left - part * job.gpus
    return total


def genetic(problem: Problem, decode: Decode, seconds: float, seed: int) -> int:
    """Random-key genetic algorithm: tournaments of two, uniform crossover, 10 % mutation, the best two survive."""
    draws, n = np.random.default_rng(seed), len(problem.jobs)
    began = time.process_time()
    keys = draws.random((POPULATION, n))
    keys[0] = np.arange(n) / n  # by order: the policy's own is among the first
    scores = np.array([decode(one) for one in keys])
    while time.process_time() - began < seconds:
        elite = keys[np.argsort(-scores)[:2]]
        pairs = draws.integers(0, POPULATION, (2, POPULATION - 2, 2))
        parents = [keys[np.where(scores[p[:, 0]] >= scores[p[:, 1]], p[:, 0], p[:, 1])] for p in pairs]
        children = np.where(draws.random((POPULATION - 2, n)) < 0.5, parents[0], parents[1])
        fresh = draws.random(children.shape)
        keys = np.vstack([elite, np.where(draws.random(children.shape) < MUTATION, fresh, children)])
        scores = np.array([decode(one) for one in keys])
    return int(scores.max())


def swarm(problem: Problem, decode: Decode, seconds: float, seed: int) -> int:
    """Particle swarm over random keys: inertia 0.7, own and common best 1.5 each."""
    draws, n = np.random.default_rng(seed), len(problem.jobs)
    began = time.process_time()
    at, speed = draws.random((POPULATION, n)), np.zeros((POPULATION, n))
    at[0] = np.arange(n) / n
    own, scores = at.copy(), np.array([decode(one) for one in at])
    while time.process_time() - began < seconds:
        best = own[scores.argmax()]
        pull = OWN * draws.random(at.shape) * (own - at) + BEST * draws.random(at.shape) * (best - at)
        speed = INERTIA * speed + pull
        at = at + speed
        found = np.array([decode(one) for one in at])
        better = found > scores
        own[better], scores[better] = at[better], found[better]
    return int(scores.max())
