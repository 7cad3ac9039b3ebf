"""What a backend that acts on links must do: subclass `LinkConformance` and give it a `stage` whose cluster has a link.

The link is taken from the observation; owners are names that the stage's cluster need not know. Rows that need an action which
the backend does not support are skipped by its name.
"""

from __future__ import annotations

import pytest

from aiops.action import Action, LimitBandwidth, Outcome, ReleaseBandwidth, ReserveBandwidth
from aiops.model import Link, Share
from aiops.testing.backend import Stage, admit, needs

A, B = "job/conformance-a", "job/conformance-b"


class LinkConformance:
    """Caps and guarantees: absolute, told in the picture, never more promised than there is, honest about enforcement."""

    def test_a_guarantee_is_told_and_ends(self, stage: Stage) -> None:
        needs(stage, "reserve_bandwidth", "release_bandwidth")
        link = _link(stage)
        assert _do(stage, ReserveBandwidth(link=link.name, owner=A, bytes_per_s=link.capacity_bytes_per_s / 4)) == "done"
        assert _share(stage, A).guarantee_bytes_per_s == link.capacity_bytes_per_s / 4
        assert _do(stage, ReleaseBandwidth(link=link.name, owner=A), "a2") == "done"
        assert _share(stage, A).guarantee_bytes_per_s is None

    def test_no_more_is_promised_than_there_is(self, stage: Stage) -> None:
        needs(stage, "reserve_bandwidth")
        link = _link(stage)
        assert _do(stage, ReserveBandwidth(link=link.name, owner=A, bytes_per_s=0.75 * link.capacity_bytes_per_s)) == "done"
        assert (
            _do(stage, ReserveBandwidth(link=link.name, owner=B, bytes_per_s=0.5 * link.capacity_bytes_per_s), "a2") == "stale"
        )
        smaller = ReserveBandwidth(link=link.name, owner=A, bytes_per_s=0.25 * link.capacity_bytes_per_s)
        assert _do(stage, smaller, "a3") == "done"  # absolute: it replaces the first
        assert (
            _do(stage, ReserveBandwidth(link=link.name, owner=B, bytes_per_s=0.5 * link.capacity_bytes_per_s), "a4") == "done"
        )

    def test_a_cap_is_told_and_lifted_and_guarded_by_what_it_was(self, stage: Stage) -> None:
        needs(stage, "limit_bandwidth")
        link = _link(stage)
        assert _do(stage, LimitBandwidth(link=link.name, owner=A, bytes_per_s=1e6, was=None)) == "done"
        assert _share(stage, A).cap_bytes_per_s == 1e6
        assert _do(stage, LimitBandwidth(link=link.name, owner=A, bytes_per_s=2e6, was=None), "a2") == "stale"
        assert _do(stage, LimitBandwidth(link=link.name, owner=A, bytes_per_s=None, was=1e6), "a3") == "done"
        assert _share(stage, A).cap_bytes_per_s is None

    def test_what_is_not_imposed_is_said_to_be_accounted(self, stage: Stage) -> None:
        needs(stage, "limit_bandwidth")
        link = _link(stage)
        wish = LimitBandwidth(link=link.name, owner=A, bytes_per_s=1e6, was=None)
        told = stage.backend.apply(admit(wish), stage.now()).detail
        assert link.enforced or "not enforced" in told

    def test_a_link_that_is_not_there_is_stale(self, stage: Stage) -> None:
        needs(stage, "reserve_bandwidth")
        _link(stage)
        assert _do(stage, ReserveBandwidth(link="no-such-link", owner=A, bytes_per_s=1.0)) == "stale"
        assert stage.effects() == ()


def _do(stage: Stage, action: Action, id: str = "a1") -> str:
    outcome: Outcome = stage.backend.apply(admit(action, id=id), stage.now()).outcome
    return outcome.value


def _link(stage: Stage) -> Link:
    """The stage's first link; skips where its cluster has none."""
    seen = stage.backend.observe(stage.now())
    if not seen.links:
        pytest.skip(f"the {stage.backend.name} stage has no link")
    return seen.links[0]


def _share(stage: Stage, owner: str) -> Share:
    return next((share for share in _link(stage).shares if share.owner == owner), Share(owner=owner))
