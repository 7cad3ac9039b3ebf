"""How sure: a probability that the first cause named is right, from what can be known without the truth.

Two logistics. Where typed evidence explains the SLI: of how far the first suspect leads the second and how far the SLI left
its past (fitted once: ridge logistic regression over 182 answers, 24 Nezha and 16 PetShop cases at three lags, 62 simulated
ones; 0.8, 2.5, 2.0, 1.8, moved down and rounded, because unseen sets are harder than those one looked at). Where nothing
typed was found: of that lead, and of how far the first suspect's score is beyond what the best of many rows reaches by
chance. A job whose sensors are half gone, a question asked before there is evidence and a service that simply has more to do
leave suspects no better than chance. (Round numbers near a fit to 300 such answers on development data; `docs/rootcause.md`
has what it says of data that it was not fitted to.) `bench/rootcause.py` prints confidence against hit rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiops.diagnose.facts import Facts
from aiops.diagnose.judge import lead, noticed
from aiops.diagnose.rank import Suspect
from aiops.diagnose.resources import Claim
from aiops.diagnose.shift import TAIL_WEIGHT

INTERCEPT, LEAD, TYPED, STRENGTH = 0.5, 3.0, 2.0, 1.5
BLIND, AHEAD, ABOVE = -1.4, 2.5, 1.0
"""Where nothing typed was found: intercept, weight of the lead, and of the multiples of a chance score beyond the first."""
MOST_AHEAD, MOST_ABOVE = 0.2, 3.0
"""Lead and multiples beyond which more was not seen often enough to mean more."""
ABSTAIN = 0.87
"""Most for the first suspect where no cause is named: 87 % of such on Nezha are right, and no other set has many of them."""
CHANCE_Z = 3.4
"""Scales that the largest of 300 normal columns lies beyond usual (expected, Gaussian)."""
QUIET, NOTHING = 0.6, 0.1
"""Most where the SLI named is as it always was (8 of 14 development answers that this limits are right), or nothing is seen."""
FAINT = 1.0
"""Score of the first suspect below which nothing was seen at all: constant rows, a single sample."""
HISTORY = 12
"""Points of a baseline below which its scale is hardly known: at 5 of them 7 of 80 undisturbed windows looked disturbed."""
NO_GRAPH = 0.85
"""Factor without a topology: AC@1 falls from .94 to .75 on PetShop (on Nezha the ids of measured edges make up for it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What confidence is read from: `lead` 0..1, `typed` evidence, `strength` 0..1 of the SLI's change, and what limits it.

    `score` is the first suspect's, `points` are those of the baseline.
    """

    lead: float
    typed: float
    strength: float
    graph: bool
    named: bool
    noticed: bool
    score: float = np.inf
    points: int = HISTORY


def readings(facts: Facts, ranked: tuple[Suspect, ...], claims: tuple[Claim, ...]) -> Readings:
    """The readings of one diagnosis."""
    return Readings(
        lead=lead(ranked),
        typed=float(bool(claims) and claims[0].weight > 0),
        strength=min(max(facts.window.strength, 0.0), 10.0) / 10.0,
        graph=bool(facts.graph.causes),
        named=bool(claims),
        noticed=facts.sli is None or noticed(facts),
        score=ranked[0].score if ranked else 0.0,
        points=facts.window.baseline,
    )


def confidence(seen: Readings) -> float:
    """Probability in 0..1 that the first cause is right."""
    if seen.named:
        odds = INTERCEPT + LEAD * seen.lead + TYPED * seen.typed + STRENGTH * seen.strength
    else:
        odds = BLIND + AHEAD * min(seen.lead, MOST_AHEAD) + ABOVE * min(max(_beyond_chance(seen) - 1.0, 0.0), MOST_ABOVE)
    sure = 1.0 / (1.0 + np.exp(-odds))
    sure *= 1.0 if seen.graph else NO_GRAPH
    sure *= np.sqrt(min(seen.points / HISTORY, 1.0))
    if not seen.named:
        sure = min(sure, NOTHING if seen.score < FAINT else ABSTAIN if seen.noticed else QUIET)
    return round(float(sure), 4)


def _beyond_chance(seen: Readings) -> float:
    """The first suspect's score, against that of a row whose worst stretch is the worst of its past by chance."""
    return float(seen.score / (TAIL_WEIGHT * np.log(seen.points + 1.0) + np.log1p(CHANCE_Z)))
