"""A genetic algorithm and a particle swarm on the lending problem of policies/lending.py: what CP-SAT is measured against.

Both search over orders of the waiting jobs (random keys) and decode an order as the policy's own greedy placement would: best
fit on the fullest node that has room, on the lender with the least idle that suffices. Same instance, same CPU seconds.
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
    """A function from random keys (n,) to the worth of the loans that the order gives. One-node jobs only."""
    gpus = [job.gpus for job in problem.jobs]
    worth = [problem.worth(job) for job in problem.jobs]
    room = np.array(list(problem.floor.free.values()))
    shares = np.array(list(problem.idle.values()), dtype=float)

    def decode(keys: np.ndarray) -> int:
        free, idle, total = room.copy(), shares.copy(), 0
        for i in np.argsort(keys, kind="stable"):
            nodes = np.where(free >= gpus[i], free, np.inf)
            lenders = np.where(idle >= gpus[i], idle, np.inf)
            node, lender = int(nodes.argmin()), int(lenders.argmin())
            if np.isfinite(nodes[node]) and np.isfinite(lenders[lender]):
                free[node] -= gpus[i]
                idle[lender] -= gpus[i]
                total += worth[i]
        return total

    return decode


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
