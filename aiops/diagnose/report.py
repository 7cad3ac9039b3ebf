"""What a diagnosis says: ranked hypotheses with evidence, a verdict, a confidence; and its plain form for files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiops.model import Cause, Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """One entity as a cause. `verdict` is typed where evidence allows; `chain` leads from where it shows to the cause."""

    entity: str
    metric: str | None
    verdict: Cause
    score: float
    chain: tuple[str, ...] = ()
    evidence_for: tuple[Evidence, ...] = ()
    evidence_against: tuple[Evidence, ...] = ()
    counterfactual: Mapping[str, float] = field(default_factory=dict)
    neighbour: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The answer at `at`. `causes` has every entity, best first; `notes` say what limited the diagnosis."""

    at: float
    sli: str | None
    onset: float | None
    verdict: Cause
    confidence: float
    causes: tuple[Hypothesis, ...]
    notes: tuple[str, ...] = ()
