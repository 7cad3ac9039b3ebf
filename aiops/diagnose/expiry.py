"""Tokens that will run out: a finding while there is time to renew them, for a daemon without one sees and does nothing.

A token that is renewed in time is never mentioned: a person hears of it in the last fifth of its life, at most a day ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from aiops.model import Cause, Cluster, Evidence, Finding, Forecast, Query, Series

LEFT, LIFE = "aiops_token_expires_in_seconds", "aiops_token_lifetime_seconds"
LAST_SHARE = 0.2
"""Of a token's life; who renews by a timer does so at half of it or at two thirds."""
DAY_S = 86400.0
WINDOW_S = 600.0  # older samples say nothing of the token that is there now


class ExpiryDiagnoser:
    """Diagnoser `expiry`."""

    name: ClassVar[str] = "expiry"

    def needs(self) -> tuple[Query, ...]:
        """How long each token holds, and was made to hold."""
        return tuple(Query(metric=metric, window_s=WINDOW_S) for metric in (LEFT, LIFE))

    def diagnose(
        self,
        cluster: Cluster,
        series: Sequence[Series],
        now: float,
        known: Sequence[Finding] = (),
        forecasts: Sequence[Forecast] = (),
    ) -> tuple[Finding, ...]:
        """A finding per token in the last part of its life or beyond it, most urgent first. See `ports.Diagnoser`."""
        newest = {one.key: (float(one.times[-1]), float(one.values[-1])) for one in series if len(one.times)}
        lives = {key.label("token"): value for key, (_, value) in newest.items() if key.metric == LIFE}
        since = {one.id: one.since for one in known}
        found = []
        for key, (at, value) in newest.items():
            left_s, name = value - (now - at), key.label("token") or ""
            if key.metric == LEFT and left_s < min(LAST_SHARE * lives.get(name, DAY_S / LAST_SHARE), DAY_S):
                found.append(_finding(name, left_s, now, since))
        return tuple(sorted(found, key=lambda one: (one.horizon_s or 0.0, one.id)))


def _finding(name: str, left_s: float, now: float, since: Mapping[str, float | None]) -> Finding:
    id = f"expiry:{name}"
    words = f"token {name} runs out in {left_s / 60:.0f} minutes" if left_s > 0 else f"token {name} has run out"
    return Finding(
        id=id, at=now, cause=Cause.EXHAUSTION, subject=f"token/{name}", score=1.0, confidence=1.0,
        since=since.get(id) or now, horizon_s=max(left_s, 0.0), summary=f"{words}: renew it",
        evidence_for=(Evidence(text=words, series=LEFT, value=left_s),),
    )  # fmt: skip
