"""Scores answers to cases: typed macro-F1, AC@1, AC@3, abstention, false alarms, and what lag and lost metrics cost.

Whoever answers gets a `Question`: everything measured up to the moment of the question, never the truth and never the
future. An answer is the report of `aiops diagnose` (`verdict`, `causes` with `entity`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aiops.sim.faults.cases import Case
from aiops.sim.faults.sensors import Row
from aiops.sim.faults.world import Floats

ABSTAINED = frozenset({"load_change", "unknown", "none", ""})
"""Verdicts that blame nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What one may know at `at`."""

    times: Floats
    rows: Sequence[Row]
    topology: Mapping[str, Any]
    at: float
    sli: str | None


Diagnose = Callable[[Question], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answered case. `place` is the rank of the right entity (1 is best), 0 where it was not named."""

    kind: str
    truth: str
    verdict: str
    place: int
    both: bool
    chance: float

    @property
    def right(self) -> bool:
        """Whether the verdict is the true one; of a normal window, that nobody was blamed."""
        return self.verdict == self.truth


def question(case: Case, lag_s: float = 0.0, drop: float = 0.0, seed: int = 0) -> Question:
    """The case as seen `lag_s` after it was noticed, with a share `drop` of its series lost."""
    at = case.truth["at"] + lag_s
    seen = case.times <= at
    rng = np.random.default_rng([seed, len(case.rows)])
    sli = case.truth["sli"]
    kept = [row for row in case.rows if f"{row[0]}:{row[1]}" == sli or rng.random() >= drop]
    rows = [(entity, metric, values[seen]) for entity, metric, values in kept]
    return Question(times=case.times[seen], rows=rows, topology=case.topology, at=at, sli=sli)


def judge(case: Case, report: Mapping[str, Any]) -> Outcome:
    """Compare a report with the truth of its case."""
    truth, verdict = case.truth, str(report.get("verdict") or "none")
    ranked = list(dict.fromkeys(cause["entity"] for cause in report.get("causes", ())))
    expected = truth["verdict"]
    accepted = {expected, *truth.get("also", ()), *truth.get("verdicts", ())}
    if verdict in accepted or (expected in ABSTAINED and verdict in ABSTAINED):
        verdict = expected
    wanted = truth.get("entities", [truth["entity"]])
    places = [ranked.index(entity) + 1 if entity in ranked else 0 for entity in wanted]
    found = [place for place in places if place]
    both = len(wanted) > 1 and sorted(places) == [1, 2]
    return Outcome(truth["kind"], expected, verdict, min(found, default=0), both, len(wanted) / truth["candidates"])


def score(cases: Iterable[Case], diagnose: Diagnose, lag_s: float = 0.0, drop: float = 0.0) -> list[Outcome]:
    """Ask about every case."""
    return [judge(case, diagnose(question(case, lag_s, drop))) for case in cases]


def macro_f1(outcomes: Sequence[Outcome]) -> float:
    """Mean F1 over the true verdicts of single faults; two at once and windows without a fault have their own figures."""
    single = [o for o in outcomes if o.kind != "two" and o.truth not in ABSTAINED]
    right = Counter(o.truth for o in single if o.right)
    claimed, true = Counter(o.verdict for o in outcomes if o.kind != "two"), Counter(o.truth for o in single)
    return float(np.mean([2.0 * right[kind] / (claimed[kind] + true[kind]) for kind in true])) if true else float("nan")


def figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """All figures by name; NaN where no case asks for it."""
    blamed = [o for o in outcomes if o.truth not in ABSTAINED and o.kind != "two"]
    loads = [o.verdict in ABSTAINED for o in outcomes if o.truth == "load_change"]
    normal = [o.verdict not in ABSTAINED for o in outcomes if o.kind == "normal"]
    two = [o.both for o in outcomes if o.kind == "two"]
    return {
        "macro_f1": macro_f1(outcomes),
        "ac1": _share([o.place == 1 for o in blamed]),
        "ac3": _share([1 <= o.place <= 3 for o in blamed]),
        "chance": _share([o.chance for o in blamed]),
        "abstains_on_load": _share(loads),
        "false_alarms": _share(normal),
        "both_of_two": _share(two),
        "n": float(len(outcomes)),
    }


def confusion(outcomes: Sequence[Outcome]) -> dict[str, Counter[str]]:
    """Verdicts given, by kind of case."""
    table: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        table.setdefault(outcome.kind, Counter())[outcome.verdict] += 1
    return table


def decided_after_s(case: Case, diagnose: Diagnose, until_s: int = 30) -> float:
    """Seconds from when the fault could be seen until the first right verdict that stays; infinity where there is none."""
    visible = case.truth["visible"]
    decided = np.inf
    for second in range(1, until_s + 1):
        asked = question(case, visible + second - case.truth["at"])
        if not judge(case, diagnose(asked)).right:
            decided = np.inf
        elif not np.isfinite(decided):
            decided = float(second)
    return decided


def _share(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
