"""When a person hears of a token."""

from dataclasses import replace

import numpy as np
import pytest

from aiops import plugins
from aiops.diagnose.expiry import ExpiryDiagnoser
from aiops.errors import ConfigError
from aiops.model import Cause, Cluster, Series, SeriesKey

NOW, DAY = 1_000_000.0, 86400.0
CLUSTER = Cluster(at=NOW, backend="slurm")


def told(left_s: float, life_s: float | None, age_s: float = 0.0, name: str = "slurm") -> list[Series]:
    rows = [("aiops_token_expires_in_seconds", left_s)]
    rows += [("aiops_token_lifetime_seconds", life_s)] if life_s is not None else []
    times = np.array([NOW - age_s])
    return [Series(key=SeriesKey.of(metric, token=name), times=times, values=np.array([value])) for metric, value in rows]


@pytest.mark.parametrize(
    ("left_s", "life_s", "age_s", "horizon_s", "why"),
    [
        (700.0, 3600.0, 0.0, 700.0, "the last fifth of an hour"),
        (730.0, 3600.0, 0.0, None, "a timer renews it before"),
        (730.0, 3600.0, 60.0, 670.0, "said a minute ago"),
        (1.1 * DAY, 90 * DAY, 0.0, None, "a long one: at most a day ahead"),
        (0.9 * DAY, 90 * DAY, 0.0, 0.9 * DAY, "within a day"),
        (0.9 * DAY, None, 0.0, 0.9 * DAY, "it does not say when it was made"),
        (-5.0, 3600.0, 0.0, 0.0, "it has run out"),
    ],
)
def test_when(left_s: float, life_s: float | None, age_s: float, horizon_s: float | None, why: str) -> None:
    found = ExpiryDiagnoser().diagnose(CLUSTER, told(left_s, life_s, age_s), NOW)
    assert [one.horizon_s for one in found] == ([] if horizon_s is None else [pytest.approx(horizon_s)]), why
    assert all(one.cause is Cause.EXHAUSTION and one.subject == "token/slurm" and "renew" in one.summary for one in found)


def test_it_stays_the_same_finding_and_the_most_urgent_is_first() -> None:
    diagnoser = ExpiryDiagnoser()
    series = told(600.0, 3600.0) + told(60.0, 3600.0, name="other")
    first = diagnoser.diagnose(CLUSTER, series, NOW)
    assert [one.subject for one in first] == ["token/other", "token/slurm"]
    later = diagnoser.diagnose(CLUSTER, [replace(one, times=one.times + 60) for one in series], NOW + 60, first)
    assert [(one.id, one.since) for one in later] == [(one.id, NOW) for one in first]


def test_nothing_known_is_nothing_said_and_it_takes_no_settings() -> None:
    assert ExpiryDiagnoser().diagnose(CLUSTER, [], NOW) == ()
    assert {query.metric for query in ExpiryDiagnoser().needs()} == {
        "aiops_token_expires_in_seconds",
        "aiops_token_lifetime_seconds",
    }
    with pytest.raises(ConfigError, match="takes no settings, found x"):
        plugins.load("diagnosers", "expiry", {"x": 1}, "here")
