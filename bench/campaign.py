"""The simulator campaign of `rootcause.py`: many cases of every kind of fault, asked early, late and half blind.

    bench/rootcause.py --campaign 50 [--kinds straggler,thermal] [--seed 1000] [--answers FILE]

Every case is made in memory from its seed and diagnosed 10 s after the fault became visible at 1 Hz, again as if the detector
had been 60 or 120 s late, with one metric in ten lost, and with only every tenth reading. Each answer is a line of FILE as soon
as it is there, so that a campaign may be run in pieces, several at once into files of their own; the tables are over all lines
of all files, and say of how many revisions of diagnosis and simulator they are.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from aiops.diagnose.analysis import Analysis, investigate
from aiops.diagnose.confidence import Readings, confidence
from aiops.diagnose.panel import Panel, is_counter, rate
from aiops.diagnose.topology import parse_topology
from aiops.sim.faults.cases import TWO, Case, make_case
from aiops.sim.faults.kinds import KINDS
from aiops.sim.faults.score import ABSTAINED, Outcome, Question, figures, judge, question

ROOT = Path(__file__).parents[1]
DECIDE_S = 10.0
"""The decision is due this long after the fault became visible (issue)."""
EARLY_S = (2.0, 4.0, 6.0, 8.0)
"""Earlier looks at one case in `EARLY_EVERY`: when was the answer right for good? They double what a case costs."""
EARLY_EVERY = 5
SOURCES = ("aiops/diagnose", "aiops/sim/faults")
"""What an answer depends on: equal files, equal answers."""
ENOUGH = 20
"""Answers in a tenth from which its hit rate says something: one answer is five points."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a case is looked at: seconds after the decision was due, share of the metrics lost, every how many readings."""

    lag_s: float = 0.0
    drop: float = 0.0
    every: int = 1


VARIANTS = {
    "in time": Look(),
    "60 s late": Look(lag_s=60.0),
    "120 s late": Look(lag_s=120.0),
    "1 in 10 lost": Look(drop=0.1),
    "10-s step": Look(every=10),
    "and 20 s later": Look(lag_s=20.0, every=10),
}
STALLS = {
    "io_stall": ("storage_slow", "storage_neighbour"),
    "prep_stall": ("host_cpu",),
    "net_contention": ("net_congestion", "slow_link"),
    "straggler": ("straggler",),
}
"""The four that must not be mixed up, and the kinds of fault that cause them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answered question; `said` is the verdict as given, `verdict` as judged, `decided_s` after visible (inf: never)."""

    kind: str
    seed: int
    variant: str
    truth: str
    said: str
    verdict: str
    place: int
    both: bool
    chance: float
    readings: dict[str, Any]
    pinned: bool
    decided_s: float
    cpu_s: float
    revision: str = ""

    @property
    def confidence(self) -> float:
        """As reported, by the constants of today."""
        return confidence(Readings(**self.readings))

    @property
    def outcome(self) -> Outcome:
        """As the simulator's own scorer takes it."""
        return Outcome(self.kind, self.truth, self.verdict, self.place, self.both, self.chance)


def ask(case: Case, q: Question) -> tuple[Outcome, Analysis]:
    """The product's answer, judged."""
    found = investigate(to_panel(q), parse_topology(q.topology, case.name), q.at, q.sli)
    causes = [{"entity": cause.entity} for cause in found.report.causes]
    return judge(case, {"verdict": found.report.verdict.value, "causes": causes}), found


def to_panel(q: Question) -> Panel:
    """What reading the case's file would give, without the file."""
    values = [rate(row, q.times) if is_counter(metric) else row for _, metric, row in q.rows]
    names = tuple(entity for entity, _, _ in q.rows)
    metrics = tuple(metric for _, metric, _ in q.rows)
    return Panel(
        times=q.times, step_s=float(np.median(np.diff(q.times))), entities=names, metrics=metrics, values=np.array(values)
    )


def answers(kind: str, seed: int, variants: Sequence[str]) -> Iterator[Answer]:
    """Answers on one case, one for each of these looks."""
    case = make_case(kind, seed)
    due = case.truth["visible"] + DECIDE_S - case.truth["at"]
    pinned = bool(case.truth["pinned"])
    for variant in variants:
        look = VARIANTS[variant]
        seen = thinned(case, look.every)
        began = time.process_time()
        outcome, found = ask(case, question(seen, due + look.lag_s, look.drop, seed))
        took = time.process_time() - began
        early = decided_s(case, due) if variant == "in time" and outcome.right and seed % EARLY_EVERY == 0 else DECIDE_S
        decided = early if outcome.right else np.inf
        yield Answer(
            kind=kind, seed=seed, variant=variant, truth=outcome.truth, said=found.report.verdict.value,
            verdict=outcome.verdict, place=outcome.place, both=outcome.both, chance=outcome.chance,
            readings=asdict(found.readings), pinned=pinned, decided_s=decided, cpu_s=took, revision=revision(),
        )  # fmt: skip


def thinned(case: Case, every: int) -> Case:
    """The case as seen by somebody who reads every so many seconds."""
    return replace(case, times=case.times[::every], rows=[(e, m, values[::every]) for e, m, values in case.rows])


@functools.cache
def revision() -> str:
    """Digest of the sources that an answer depends on."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def decided_s(case: Case, due: float) -> float:
    """Seconds after the fault was visible from which the answer was right for good."""
    since = DECIDE_S
    for early in reversed(EARLY_S):
        if not ask(case, question(case, due - DECIDE_S + early))[0].right:
            break
        since = early
    return since


def run(kinds: Sequence[str], seeds: Sequence[int], into: Path) -> list[Answer]:
    """Answer every look at every case that the file does not hold yet; all answers of the file."""
    from rich.console import Console
    from rich.progress import track

    known = load(into)
    have = {(one.kind, one.seed, one.variant) for one in known}
    wanted = [
        (kind, seed, missing)
        for seed in seeds
        for kind in kinds
        if (missing := [variant for variant in VARIANTS if (kind, seed, variant) not in have])
    ]
    with into.open("a") as file:
        for kind, seed, missing in track(wanted, description="cases", console=Console(stderr=True)):
            for one in answers(kind, seed, missing):
                known.append(one)
                file.write(json.dumps(asdict(one)) + "\n")
            file.flush()
    return known


def load(path: Path) -> list[Answer]:
    """Answers of a file, none where there is no file."""
    names = {field.name for field in fields(Answer)}
    lines = path.read_text().splitlines() if path.exists() else []
    return [Answer(**{k: v for k, v in json.loads(line).items() if k in names}) for line in lines]


# -- tables ------------------------------------------------------------------------------------------------------------


def report(known: Sequence[Answer]) -> list[dict[str, Any]]:
    """Print the tables of a campaign and return its figures."""
    out = []
    print(
        f"revisions of diagnosis and simulator: {', '.join(sorted({one.revision for one in known}))}; today's is {revision()}"
    )
    of = {variant: [one for one in known if one.variant == variant] for variant in VARIANTS}
    scores = {variant: figures([one.outcome for one in group]) for variant, group in of.items()}
    print(
        f"\nsimulator campaign, {len(of['in time'])} cases\n  {'':14s}" + "".join(f"{name:>18s}" for name in scores["in time"])
    )
    for variant, found in scores.items():
        print(f"  {variant:14s}" + "".join(f"{value:18.3f}" for value in found.values()))
    print_kinds(of["in time"])
    print_confusion(of["in time"])
    base = scores["in time"]
    out.append(_figure("typed macro-F1", base["macro_f1"], 0.93, chance=base["chance"]))
    out.append(_figure("AC@1", base["ac1"], 0.95, chance=base["chance"]))
    out.append(_figure("abstains on pure load changes", base["abstains_on_load"], 0.95))
    for lag in (60, 120):
        late = scores[f"{lag} s late"]
        out.append(_figure(f"cost of {lag} s of lag, AC@1", base["ac1"] - late["ac1"], 0.02, "lower"))
        out.append(_figure(f"cost of {lag} s of lag, macro-F1", base["macro_f1"] - late["macro_f1"], 0.02, "lower"))
    out.append(_figure("cost of 1 metric in 10 lost, AC@1", base["ac1"] - scores["1 in 10 lost"]["ac1"], 0.05, "lower"))
    two = [one for one in of["in time"] if one.kind == TWO]
    if two:
        out.append(_figure("two at once: first is right", float(np.mean([one.place == 1 for one in two])), 0.95))
        print(f"\n  two at once: both causes at the head in {sum(one.both for one in two)} of {len(two)}")
    lost = base["macro_f1"] - scores["1 in 10 lost"]["macro_f1"]
    out.append(_figure("cost of 1 metric in 10 lost, macro-F1", lost, 0.05, "lower"))
    decided = [one.decided_s <= DECIDE_S for one in of["in time"] if one.truth not in ABSTAINED and one.kind != TWO]
    out.append(_figure("right verdict within 10 s of visible", float(np.mean(decided)), 0.95))
    for name, group in (("", of["in time"]), (", utilisation pinned at 99 %", [one for one in of["in time"] if one.pinned])):
        worst = max(mixed_up(group).values(), default=0.0)
        out.append(_figure(f"worst confusion among the four stalls{name}", worst, 0.03, "lower"))
    out.append(_figure("false alarms on normal windows", base["false_alarms"], 0.05, "lower"))
    print("\n  reliability over all looks at faults and load changes")
    gap = print_reliability([(one.confidence, one.place == 1) for one in known if one.truth != "none"])
    out.append(_figure("largest gap of confidence and hit rate in a tenth", gap, 0.1, "lower"))
    return [one for one in out if np.isfinite(one["value"])]  # a campaign of some kinds only has no figure for the others


def print_kinds(group: Sequence[Answer]) -> None:
    """Per kind: n, verdict right, AC@1, median seconds to the answer."""
    print(f"\n  {'kind':20s}{'n':>4s}{'right':>8s}{'AC@1':>8s}{'decided':>9s}   verdicts given")
    for kind in (*KINDS, TWO):
        mine = [one for one in group if one.kind == kind]
        if mine:
            right = np.mean([one.outcome.right for one in mine])
            first, when = (
                np.mean([one.place == 1 for one in mine]),
                np.median([one.decided_s for one in mine if one.seed % EARLY_EVERY == 0]),
            )
            given = ", ".join(f"{verdict} {n}" for verdict, n in Counter(one.said for one in mine).most_common())
            print(f"  {kind:20s}{len(mine):4d}{right:8.2f}{first:8.2f}{when:8.0f}s   {given}")


def print_confusion(group: Sequence[Answer]) -> None:
    """True against given verdicts, single faults and windows without."""
    single = [one for one in group if one.kind != TWO]
    given = sorted({one.verdict for one in single})
    print(
        "\n  confusion (rows: truth; columns: verdict as judged)\n  "
        + " " * 17
        + "".join(f"{name[:10]:>11s}" for name in given)
    )
    for truth in sorted({one.truth for one in single}):
        row = Counter(one.verdict for one in single if one.truth == truth)
        print(f"  {truth:17s}" + "".join(f"{row[name] or '.':>11}" for name in given))


def print_reliability(pairs: Sequence[tuple[float, bool]]) -> float:
    """Print reported confidence against hit rate per tenth; the largest gap of a tenth with enough answers to tell."""
    worst = np.nan
    for low in np.arange(0.0, 1.0, 0.1):
        group = np.array([pair for pair in pairs if low <= pair[0] < low + 0.1 or (low > 0.85 and pair[0] >= 1.0)])
        if len(group):
            said, right = group.mean(axis=0)
            print(f"      confidence {low:.1f}-{low + 0.1:.1f}: n {len(group):4d}  said {said:.2f}  right {right:.2f}")
            worst = float(np.fmax(worst, abs(said - right))) if len(group) >= ENOUGH else worst
    return worst


def mixed_up(group: Sequence[Answer]) -> Mapping[tuple[str, str], float]:
    """Share of cases of one stall that were called another."""
    found = {}
    for truth, kinds in STALLS.items():
        mine = [one for one in group if one.kind in kinds]
        for other in STALLS:
            if other != truth and mine:
                found[truth, other] = float(np.mean([one.said == other for one in mine]))
    return found


def _figure(name: str, value: float, goal: float, better: str = "higher", **baseline: float) -> dict[str, Any]:
    return {
        "figure": f"campaign: {name}",
        "value": value,
        "unit": "ratio",
        "goal": goal,
        "better": better,
        "baseline": baseline,
    }
