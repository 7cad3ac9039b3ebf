"""How sure: a probability that the first cause named is right, from what can be known without the truth.

A logistic of three readings, its constants fixed once: how far the SLI left its past, how far the first suspect leads, and
whether typed evidence supports it. Fitted by `bench/rootcause.py --fit` on PetShop, Nezha and simulated cases together.
"""

from __future__ import annotations

import numpy as np

from aiops.diagnose.facts import Facts
from aiops.diagnose.rank import Suspect
from aiops.diagnose.verdicts import Claim

INTERCEPT = -1.0
LEAD = 2.0
TYPED = 2.0
STRENGTH = 0.1


def readings(facts: Facts, ranked: tuple[Suspect, ...], claims: tuple[Claim, ...]) -> tuple[float, float, float]:
    """Lead of the first suspect (0..1), explained share of the SLI by typed claims (0..1), strength of the SLI (0..10)."""
    scores = [suspect.score for suspect in ranked[:2]]
    lead = (scores[0] - scores[1]) / scores[0] if len(scores) == 2 and scores[0] > 0 else 0.0
    typed = min(1.0, claims[0].weight) if claims else 0.0
    return lead, typed, float(min(max(facts.window.strength, 0.0), 10.0))


def confidence(facts: Facts, ranked: tuple[Suspect, ...], claims: tuple[Claim, ...]) -> float:
    """Probability in 0..1; at most 0.3 where nothing was named."""
    lead, typed, strength = readings(facts, ranked, claims)
    sure = 1.0 / (1.0 + np.exp(-(INTERCEPT + LEAD * lead + TYPED * typed + STRENGTH * strength)))
    return round(float(sure if claims else min(sure, 0.3)), 4)
