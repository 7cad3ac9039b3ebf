"""What every `Orders`, `Outbox` and named state must do; see `aiops.testing.store`."""

from __future__ import annotations

from dataclasses import replace

from aiops.action import (
    OrderKind,
)
from aiops.ports import Store
from aiops.testing.examples import T0, message, order


class OutboxConformance:
    """Orders in, notifications out, state."""

    def test_orders_hold_until_they_end_or_are_undone(self, store: Store) -> None:
        kinds = OrderKind
        store.put_order(order("1", kinds.KILL))
        store.put_order(order("2", kinds.PAUSE, "pool/a"))
        store.put_order(order("3", kinds.PAUSE, "pool/b", until=T0 + 60))
        assert [one.id for one in store.orders(T0)] == ["1", "2", "3"]
        assert [one.id for one in store.orders(T0 + 60)] == ["1", "2"]
        store.put_order(order("4", kinds.UNPAUSE, "pool/b"))
        store.put_order(order("5", kinds.UNKILL, at=T0 - 3600))
        assert [one.id for one in store.orders(T0)] == ["2"]
        store.put_order(order("6", kinds.KILL))
        assert [one.id for one in store.orders(T0)] == ["2", "6"]

    def test_the_newest_mode_and_silence_of_a_target_count_and_approvals_add_up(self, store: Store) -> None:
        kinds = OrderKind
        for id, kind, target in (("1", kinds.SET_MODE, "p=act"), ("2", kinds.APPROVE, "plan"), ("3", kinds.APPROVE, "plan")):
            store.put_order(order(id, kind, target))
        store.put_order(order("4", kinds.SILENCE, "alertname=x", until=T0 + 60))
        store.put_order(order("5", kinds.SILENCE, "alertname=x", until=T0 - 1))
        store.put_order(order("6", kinds.SET_MODE, "p=act"))
        assert [one.id for one in store.orders(T0)] == ["2", "3", "6"]

    def test_an_order_that_is_known_is_left_as_it_is(self, store: Store) -> None:
        store.put_order(order("1", OrderKind.PAUSE, "a"))
        store.put_order(order("1", OrderKind.PAUSE, "b"))
        assert [one.target for one in store.orders(T0)] == ["a"]

    def test_messages_are_due_one_by_one_in_each_group(self, store: Store) -> None:
        store.enqueue([message("1", "a"), message("2", "a"), message("3", "b", next_at=T0 + 60), message("4", "a", "other")])
        assert [one.id for one in store.due(T0)] == ["1", "4"]
        assert store.due(T0)[0] == message("1", "a")
        assert [one.id for one in store.due(T0 + 60)] == ["1", "3", "4"]
        assert [one.id for one in store.due(T0 + 60, limit=1)] == ["1"]
        store.settle(message("1", "a"), delivered=True)
        assert [one.id for one in store.due(T0)] == ["2", "4"]

    def test_a_failed_message_keeps_its_place_and_its_group_waits_for_it(self, store: Store) -> None:
        store.enqueue([message("1"), message("2")])
        failed = replace(message("1"), attempts=1, next_at=T0 + 30, error="503")
        store.settle(failed, delivered=False)
        assert store.due(T0) == ()
        assert store.due(T0 + 30) == (failed,)

    def test_a_message_given_up_lets_its_group_go_on(self, store: Store) -> None:
        store.enqueue([message("1"), message("2"), message("3", "b")])
        for id, group in (("1", "g"), ("3", "b")):
            store.settle(replace(message(id, group), dead=True, error="410", attempts=9), delivered=False)
        assert [one.id for one in store.due(T0)] == ["2"]
        assert [(one.id, one.error, one.attempts) for one in store.dead_letters()] == [("3", "410", 9), ("1", "410", 9)]

    def test_an_id_that_is_known_is_not_sent_again_even_when_it_was_delivered(self, store: Store) -> None:
        store.enqueue([message("1")])
        store.settle(message("1"), delivered=True)
        store.enqueue([message("1")])
        assert store.due(T0) == ()

    def test_named_state_is_kept_and_the_last_one_wins(self, store: Store) -> None:
        assert store.state("groups") is None
        store.put_state("groups", b"\x00one")
        store.put_state("groups", b"two")
        assert store.state("groups") == b"two"
