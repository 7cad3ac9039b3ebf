"""How sure: a probability that the first cause named is right, from what can be known without the truth.

A logistic of three readings: how far the first suspect leads the second, whether typed evidence explains the SLI, how far the
SLI left its past. The constants were fitted once (ridge logistic regression over 182 answers: 24 Nezha and 16 PetShop cases
at three lags, 62 simulated ones; fitted 0.8, 2.5, 2.0, 1.8), then moved down and rounded, because unseen sets are harder than
those one looked at. `bench/rootcause.py` prints confidence against hit rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiops.diagnose.facts import Facts
from aiops.diagnose.judge import lead, noticed
from aiops.diagnose.rank import Suspect
from aiops.diagnose.resources import Claim

INTERCEPT, LEAD, TYPED, STRENGTH = 0.2, 3.0, 2.0, 1.5
ABSTAIN = 0.74
"""Most for the first suspect where no cause is named: it was right in 74 % of 74 such answers, most of them on Nezha."""
QUIET = 0.1
"""Most where the SLI named is as it always was."""
NO_GRAPH = 0.85
"""Factor without a topology: AC@1 falls from .81 to .69 on PetShop and from .88 to .63 on Nezha."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What confidence is read from: `lead` 0..1, `typed` evidence, `strength` 0..1 of the SLI's change, and what limits it."""

    lead: float
    typed: float
    strength: float
    graph: bool
    named: bool
    noticed: bool


def readings(facts: Facts, ranked: tuple[Suspect, ...], claims: tuple[Claim, ...]) -> Readings:
    """The readings of one diagnosis."""
    return Readings(
        lead=lead(ranked),
        typed=float(bool(claims) and claims[0].weight > 0),
        strength=min(max(facts.window.strength, 0.0), 10.0) / 10.0,
        graph=bool(facts.graph.causes),
        named=bool(claims),
        noticed=facts.sli is None or noticed(facts),
    )


def confidence(seen: Readings) -> float:
    """Probability in 0..1 that the first cause is right."""
    sure = 1.0 / (1.0 + np.exp(-(INTERCEPT + LEAD * seen.lead + TYPED * seen.typed + STRENGTH * seen.strength)))
    sure *= 1.0 if seen.graph else NO_GRAPH
    if not seen.named:
        sure = min(sure, ABSTAIN if seen.noticed else QUIET)
    return round(float(sure), 4)
