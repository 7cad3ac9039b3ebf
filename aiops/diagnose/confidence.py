"""How sure: a probability that the first cause named is right, from what can be known without the truth.

A logistic of three readings: how far the first suspect leads the second, whether typed evidence explains the SLI, how far the
SLI left its past. The constants were fitted once (ridge logistic regression over 182 answers: 24 Nezha and 16 PetShop cases
at three lags, 62 simulated ones; fitted 0.8, 2.5, 2.0, 1.8), then moved down and rounded, because unseen sets are harder than
those one looked at. A fit to all sets but one said .90 of PetShop (right: .94), .94 of Nezha (.88) and .97 of the real faults
(.99). `bench/rootcause.py` prints confidence against hit rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiops.diagnose.facts import Facts
from aiops.diagnose.judge import lead, noticed
from aiops.diagnose.rank import Suspect
from aiops.diagnose.resources import Claim

INTERCEPT, LEAD, TYPED, STRENGTH = 0.5, 3.0, 2.0, 1.5
ABSTAIN = 0.78
"""Most for the first suspect where no cause is named: it was right in 82 % of 50 such answers on Nezha, 74 % of 74 before."""
QUIET = 0.1
"""Most where the SLI named is as it always was."""
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
    sure = 1.0 / (1.0 + np.exp(-(INTERCEPT + LEAD * seen.lead + TYPED * seen.typed + STRENGTH * seen.strength)))
    sure *= 1.0 if seen.graph else NO_GRAPH
    sure *= np.sqrt(min(seen.points / HISTORY, 1.0))
    if not seen.named:
        sure = min(sure, ABSTAIN if seen.noticed and seen.score >= FAINT else QUIET)
    return round(float(sure), 4)
