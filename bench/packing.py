"""A genetic algorithm and a particle swarm on the lending problem of policies/lending.py: what CP-SAT is measured against.

Both search over orders of the waiting jobs (random keys) and decode an order as the policy's own greedy placement would: best
fit on the fullest node that has room, whole empty nodes for a larger job, on the lender with the least idle that suffices. Same
instance, same CPU seconds. `bound` is what no plan can be worth more than.
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


def decoder(problem: Problem) -> Decode:
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


def bound(problem: Problem) -> float:
    """What no plan can be worth more than: jobs cut to pieces, all idle shares one share, all nodes one node."""
    left, total = float(min(sum(problem.idle.values()), sum(problem.floor.free.values()))), 0.0
    for job in sorted(problem.jobs, key=lambda job: -problem.worth(job) / job.gpus):
        part = min(1.0, left / job.gpus)
        total, left = total + part * problem.worth(job), left - part * job.gpus
    return total


def genetic(problem: Problem, seconds: float, seed: int) -> int:
    """Random-key genetic algorithm: tournaments of two, uniform crossover, 10 % mutation, the best two survive."""
    draws, decode, n = np.random.default_rng(seed), decoder(problem), len(problem.jobs)
    began = time.process_time()
    keys = draws.random((POPULATION, n))
    keys[0] = np.arange(n) / n  # the policy's own order is among the first
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


def swarm(problem: Problem, seconds: float, seed: int) -> int:
    """Particle swarm over random keys: inertia 0.7, own and common best 1.5 each."""
    draws, decode, n = np.random.default_rng(seed), decoder(problem), len(problem.jobs)
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
