"""Which knob to turn first, learnt from what turning them did: LinUCB of the library mabwiser, over recorded inputs only.

It has no memory of its own: it is fitted anew, in order, on the tries that the snapshot holds, so that a replay gives the same
choice. It orders arms; bounds, cooldowns, putting back and permission are others' business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aiops.model import Cause

_ALPHA = 0.5
"""How much an arm is worth that is little known. Gains are shares of a step: within 0.5 of each other, mostly."""
_CAUSES = (Cause.IO_STALL, Cause.PREP_STALL, Cause.NET_CONTENTION, Cause.MEMORY_PRESSURE, Cause.CPU_CONTENTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One arm that was pulled: under which cause, from which knob value, and what share of the step it saved."""

    arm: str
    cause: Cause
    value: float
    gained: float


def available() -> bool:
    """Whether the library is installed (the extra `learning`)."""
    try:
        import mabwiser.mab  # noqa: F401
    except ImportError:
        return False
    return True


def ordered(arms: Sequence[str], tries: Sequence[Try], cause: Cause, value: float) -> tuple[str, ...]:
    """The arms, most promising first; as they came among equals, and while nothing was tried."""
    if len(arms) < 2 or not tries:
        return tuple(arms)
    from mabwiser.mab import MAB, LearningPolicy

    known = sorted({*arms, *(one.arm for one in tries)})
    model = MAB(known, LearningPolicy.LinUCB(alpha=_ALPHA), seed=1)
    contexts = [_context(one.cause, one.value) for one in tries]
    model.fit([one.arm for one in tries], [min(1.0, max(-1.0, one.gained)) for one in tries], contexts)
    worth = model.predict_expectations([_context(cause, value)])
    return tuple(sorted(arms, key=lambda arm: (-round(float(worth[arm]), 9), list(arms).index(arm))))


def _context(cause: Cause, value: float) -> list[float]:
    """Constant, cause by cause, and how far the knob is turned already (doublings)."""
    return [1.0, *(float(cause is one) for one in _CAUSES), math.log2(1.0 + max(0.0, value)) / 4]
