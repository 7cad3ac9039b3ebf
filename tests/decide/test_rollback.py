"""What was left half done is put back once, under all rules; a rollback that fails is a person's business."""

from lying_world import World, scale

from aiops.action import EntryState, OrderKind, Rollback


def states(world: World) -> dict[str, list[EntryState]]:
    found: dict[str, list[EntryState]] = {}
    for entry in world.store.entries(0.0):
        found.setdefault(entry.admission.decision.action.kind, []).append(entry.state)
    return found


def half_done() -> World:
    """web was to go from 4 to 8 replicas and got stuck at 6; its deadline is near."""
    world = World(limits={"destructive_cooldown_s": 60.0})
    world.mood("half")
    world.cycle(scale("web", 8))
    world.mood("honest")
    return world


def test_a_half_done_action_is_put_back_and_says_so() -> None:
    world = half_done()
    world.cycle(after=70.0)
    assert states(world) == {"scale_service": [EntryState.ROLLED_BACK], "rollback": [EntryState.SENT]}
    world.cycle()
    assert states(world)["rollback"] == [EntryState.CONFIRMED]
    assert world.cluster.services["web"].replicas == 4
    assert world.violations() == ()


def test_a_rollback_passes_the_gates_like_any_other_action() -> None:
    world = half_done()
    world.order(OrderKind.KILL)
    world.cycle(after=70.0)
    assert states(world) == {"scale_service": [EntryState.FAILED]}
    assert world.cluster.services["web"].replicas == 6


def test_a_rollback_that_fails_is_never_rolled_back() -> None:
    world = half_done()
    world.mood("do nothing")
    for _ in range(10):
        world.cycle(after=70.0)
    assert states(world) == {"scale_service": [EntryState.ROLLED_BACK], "rollback": [EntryState.NEEDS_HUMAN]}
    assert sum(isinstance(e.admission.decision.action, Rollback) for e in world.store.entries(0.0)) == 1


def test_an_action_that_did_nothing_leaves_nothing_to_put_back() -> None:
    world = World()
    world.mood("do nothing")
    world.cycle(scale("web", 8))
    world.cycle(after=70.0)
    assert states(world) == {"scale_service": [EntryState.FAILED]}
