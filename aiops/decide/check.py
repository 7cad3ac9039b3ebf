"""The invariants of safety.md as one pure function over what a run left behind.

Every stateful test, simulation and crash run ends with it, and it can run in production, for it only reads. Records of
decisions show 25 of the 30; for I6, I23 to I26 and the whole of I30 the trace brings how to decide again and what was seen at
the doors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aiops.decide import rules_damage, rules_doors, rules_moment, rules_record, rules_returned
from aiops.decide.limits import Limits
from aiops.decide.trace import EffectRecord, Trace, Violation

__all__ = ["RULES", "EffectRecord", "Trace", "Violation", "check"]
Rule = Callable[[Trace, Limits], Iterator[tuple[str, str]]]
RULES: tuple[tuple[str, Rule], ...] = (
    ("I1", rules_record.once), ("I2", rules_record.intended), ("I3", rules_record.ended), ("I4", rules_record.read_first),
    ("I5", rules_damage.fresh), ("I7", rules_moment.prompt), ("I8", rules_moment.same_object),
    ("I9", rules_damage.proven), ("I10", rules_damage.bounded_damage),
    ("I10", rules_returned.idle), ("I10", rules_returned.few),
    ("I11", rules_damage.no_mass_fault), ("I12", rules_damage.something), ("I12", rules_damage.whole),
    ("I13", rules_damage.unbroken),
    ("I14", rules_damage.cooled), ("I15", rules_damage.steady), ("I16", rules_record.led), ("I17", rules_record.stopped),
    ("I18", rules_record.observing), ("I19", rules_record.judged), ("I20", rules_record.one_at_a_time),
    ("I21", rules_damage.conserved), ("I22", rules_damage.unprotected), ("I28", rules_damage.in_scope),
    ("I27", rules_moment.measured), ("I29", rules_damage.approved), ("I30", rules_moment.answered),
    ("I6", rules_doors.no_bolder), ("I23", rules_doors.audited), ("I24", rules_doors.idempotent),
    ("I25", rules_doors.delivered), ("I26", rules_doors.kept),
)  # fmt: skip


def check(trace: Trace, limits: Limits) -> tuple[Violation, ...]:
    """Every broken invariant of a run; empty when it was safe."""
    return tuple(Violation(rule=rule, id=id, detail=detail) for rule, holds in RULES for id, detail in holds(trace, limits))
