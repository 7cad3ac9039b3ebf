"""What is proposed against a cause, and what never is."""

from __future__ import annotations

from typing import get_args

import pytest

from aiops.action import Action
from aiops.diagnose.remedies import remedies
from aiops.model import Cause

KINDS = {kind.__dataclass_fields__["kind"].default for kind in get_args(Action)}
NOTHING_TO_DO = {Cause.UNKNOWN, Cause.ANOMALY, Cause.LOAD_CHANGE}


@pytest.mark.parametrize("cause", Cause)
def test_a_stall_is_never_answered_with_more_gpus(cause: Cause) -> None:
    for one in remedies(cause, "disk:h/sda", ("job:7", "rank:7/0", "disk:h/sda"), "job:9"):
        assert one.action not in ("scale_service", "scale_pool")


@pytest.mark.parametrize("cause", Cause)
def test_every_fault_has_a_proposal_that_some_action_or_a_person_can_carry_out(cause: Cause) -> None:
    made = remedies(cause, "host:h", ("job:7", "host:h"))
    assert bool(made) is (cause not in NOTHING_TO_DO)
    assert all(one.action in KINDS | {""} and one.target and one.text for one in made)


def test_only_a_service_with_more_demand_may_want_more_replicas() -> None:
    assert [one.action for one in remedies(Cause.LOAD_CHANGE, "service:chat")] == ["scale_service"]
    assert remedies(Cause.LOAD_CHANGE, "job:7") == ()


def test_the_neighbour_is_limited_on_what_it_shares_and_the_victim_gets_its_share() -> None:
    made = remedies(Cause.NOISY_NEIGHBOUR, "job:9", ("job:7", "rank:7/0", "disk:h/sda", "job:9"), "job:9")
    assert [(one.action, one.target) for one in made] == [
        ("reserve_bandwidth", "disk:h/sda"),
        ("limit_bandwidth", "disk:h/sda"),
        ("migrate", "job:9"),
    ]
    assert "job:7" in made[0].text and "job:9" in made[1].text


@pytest.mark.parametrize(
    ("cause", "first", "why"),
    [
        (Cause.PREP_STALL, "tune_job", "loader threads first: they cost nothing"),
        (Cause.THERMAL_THROTTLE, "set_power_limit", "less power is the gentlest way to cool"),
        (Cause.POWER_CAP, "set_power_limit", "the cap is the cause"),
        (Cause.STRAGGLER, "cordon", "nobody else shall get that card"),
        (Cause.SENSOR_FAULT, "", "only a person repairs a sensor"),
    ],
)
def test_the_gentlest_remedy_comes_first(cause: Cause, first: str, why: str) -> None:
    assert remedies(cause, "gpu:GPU-1", ("job:7", "gpu:GPU-1"))[0].action == first, why
