"""The backend suite passes a correct backend and catches each planted bug: a suite that cannot fail proves nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest

from aiops.action import Admission, Effect, Outcome, Receipt, ScaleService
from aiops.errors import Unreadable
from aiops.model import Cluster, Node, NodeState, Pool, SeriesKey, Service
from aiops.testing.backend import BackendConformance, ReplyLost

WEB = Service(
    name="web", uid="u1", version="1", pool="p", replicas=1, ready=1, min_replicas=1, max_replicas=4,
    load=SeriesKey.of("load"), target=1.0,
)  # fmt: skip


@dataclass
class World:
    """The cluster itself: it outlives any backend."""

    service: Service = WEB
    log: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    blind: bool = False
    loses: bool = False
    lies: bool = False
    halves: bool = False
    halved: set[str] = field(default_factory=set)


class Minimal:
    """The smallest correct backend; `bug` names what it does wrong."""

    name: ClassVar[str] = "minimal"

    def __init__(self, world: World, bug: str = "") -> None:
        self.supports = frozenset({"scale_service"})
        self.world, self.bug = world, bug
        self.known = set(world.done) if bug != "forgets over a restart" else set()

    def observe(self, now: float) -> Cluster:
        if self.world.blind and self.bug == "gives half a picture":
            return Cluster(at=now, backend=self.name)
        if self.world.blind:
            raise Unreadable("blind")
        node = Node(name="n0", uid="x", pool="p", state=NodeState.READY)
        at = now - 60 if self.bug == "answers from a cache" else now
        return Cluster(at=at, backend=self.name, nodes=(node,), pools=(Pool(name="p"),), services=(self.world.service,))

    def apply(self, admission: Admission, now: float) -> Receipt:
        if self.world.blind and self.bug == "raises":
            raise Unreadable("blind")
        if self.world.blind:
            return Receipt(id=admission.id, outcome=Outcome.UNKNOWN)
        refused = self._refusal(admission)
        return Receipt(id=admission.id, outcome=refused or self._do(admission), detail=admission.decision.action.kind)

    def _refusal(self, admission: Admission) -> Outcome | None:
        action, service = admission.decision.action, self.world.service
        if not admission.permitted and self.bug != "acts though denied":
            return Outcome.FAILED
        if action.kind not in self.supports and self.bug != "approximates":
            return Outcome.UNSUPPORTED
        if admission.id in self.world.halved and self.bug != "trusts its mark":
            return Outcome.FAILED
        if admission.id in self.known and self.bug != "repeats":
            return Outcome.ALREADY
        assert isinstance(action, ScaleService) or self.bug == "approximates"
        if not isinstance(action, ScaleService):
            return None
        uid = action.uid if self.bug == "ignores identity" else service.uid
        version = action.version if self.bug in ("ignores version", "forgets over a restart", "repeats") else service.version
        same = (action.service, action.uid, action.version) == (service.name, uid, version)
        return None if same else Outcome.STALE

    def _do(self, admission: Admission) -> Outcome:
        action, service = admission.decision.action, self.world.service
        if self.world.lies or self.world.halves:
            self.world.halved |= {admission.id} if self.world.halves else set()
            if self.bug in ("believes the answer", "trusts its mark"):
                self.known.add(admission.id)
                self.world.done.add(admission.id)
            lied, self.world.lies, self.world.halves = self.world.lies, False, False
            return Outcome.DONE if lied else Outcome.UNKNOWN
        wanted = action.replicas if isinstance(action, ScaleService) else 2
        replicas = wanted + (service.replicas if self.bug == "adds instead of sets" else 0)
        version = str(int(service.version) + 1)
        self.world.service = replace(service, replicas=replicas, ready=replicas, version=version)
        self.world.log.append(admission.id)
        self.known.add(admission.id)
        if self.bug != "notes too late" or not self.world.loses:
            self.world.done.add(admission.id)
        if self.world.loses:
            raise ReplyLost("on its way")
        return Outcome.DONE

    def probe(self, admission: Admission, now: float) -> Effect:
        if self.world.blind and self.bug != "guesses when blind":
            return Effect.UNREADABLE
        if self.bug == "acts when asked":
            self.apply(admission, now)
        trusting = self.bug in ("believes the answer", "trusts its mark") and admission.id in self.known
        present = admission.id in self.world.log or self.bug == "always says present" or trusting
        return Effect.PRESENT if present else Effect.ABSENT

    def close(self) -> None:
        """Nothing to let go of."""


class MinimalStage:
    def __init__(self, bug: str = "") -> None:
        self.world, self.bug = World(), bug
        self.backend = Minimal(self.world, bug)

    def now(self) -> float:
        return 1000.0

    def until(self, holds: Callable[[Cluster], bool]) -> Cluster:
        seen = self.backend.observe(self.now())
        assert holds(seen)
        return seen

    def restart(self) -> None:
        self.world.loses = False
        self.backend = Minimal(self.world, self.bug)

    def lose_next_reply(self) -> None:
        self.world.loses = True

    def recreate(self, service: str) -> None:
        self.world.service = replace(self.world.service, uid="u2")

    def blind(self) -> None:
        self.world.blind = True

    def lie_next(self) -> None:
        self.world.lies = True

    def halve_next(self) -> None:
        self.world.halves = True

    def effects(self) -> tuple[str, ...]:
        return tuple(self.world.log)


class TestMinimalBackend(BackendConformance):
    @pytest.fixture
    def stage(self) -> MinimalStage:
        return MinimalStage()


@pytest.mark.parametrize(
    ("bug", "row"),
    [
        ("gives half a picture", "an_unreadable_cluster_raises_and_gives_nothing"),
        ("answers from a cache", "an_observation_is_whole"),
        ("raises", "apply_never_raises_for_what_the_cluster_does"),
        ("acts though denied", "a_denied_admission_has_no_effect"),
        ("approximates", "an_unsupported_action_is_refused_by_name"),
        ("repeats", "a_repeat_is_already_and_has_one_effect"),
        ("forgets over a restart", "a_repeat_after_a_restart_is_already"),
        ("ignores identity", "another_object_of_the_same_name_is_stale"),
        ("ignores version", "an_old_version_is_stale"),
        ("adds instead of sets", "scaling_sets_the_absolute_number_and_replicas_become_ready"),
        ("notes too late", "a_lost_reply_is_found_by_a_probe_and_not_repeated"),
        ("acts when asked", "a_probe_tells_absent_from_present_and_changes_nothing"),
        ("always says present", "a_probe_tells_absent_from_present_and_changes_nothing"),
        ("believes the answer", "a_server_that_answers_done_and_does_nothing_is_found_out"),
        ("trusts its mark", "half_a_change_is_never_done"),
        ("guesses when blind", "a_probe_of_an_unreadable_cluster_is_unreadable"),
    ],
)
def test_each_planted_bug_is_caught_by_its_row(bug: str, row: str) -> None:
    check = getattr(BackendConformance(), f"test_{row}")
    check(MinimalStage())
    with pytest.raises((AssertionError, Unreadable, pytest.fail.Exception)):
        check(MinimalStage(bug))
