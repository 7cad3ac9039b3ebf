"""From alerts to the outbox, and one pass from the outbox to the receivers. At least once, in order per group.

`queue_notices` keeps the messages before it keeps the groups that they were made from: a crash in between makes the same
messages again, under the same ids. A message that cannot be delivered for `MAX_AGE_S`, or at all, becomes a dead letter, which
is counted, kept and seen. When and on which thread passes are made is the daemon's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aiops.action import OrderKind
from aiops.codec import decode, digest, encode
from aiops.errors import Permanent, Temporary
from aiops.model import SeriesKey
from aiops.notify.alert import Alert
from aiops.notify.backoff import Busy, pause_s
from aiops.notify.payload import webhook_body
from aiops.notify.route import Group, Notice, Reason, route
from aiops.ports import Message, Notifier, Store
from aiops.settings import Route

MAX_AGE_S = 86400.0  # a receiver that is away over a weekend night is expected back within a day
GROUPS = "notify.groups"
FAILED_TOTAL = "aiops_notifications_failed_total"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one pass did. `failed` counts attempts per (receiver/integration, reason); `dead` are letters given up on."""

    delivered: int
    failed: Mapping[tuple[str, str], int]
    dead: tuple[Message, ...]

    def counts(self) -> Mapping[SeriesKey, int]:
        """What to add to the failure counters of the catalogue."""
        return {SeriesKey.of(FAILED_TOTAL, integration=name, reason=why): n for (name, why), n in self.failed.items()}


def queue_notices(
    store: Store, alerts: Sequence[Alert], rules: Route, integrations: Sequence[str], now: float
) -> Mapping[str, Reason]:
    """Route the alerts of this moment and put what shall be told into the outbox; per group the reason why, or why not.

    `integrations` are those of the route's receiver (`webhook`); each gets its own message `receiver/integration`.
    """
    silences = tuple(order for order in store.orders(now) if order.kind is OrderKind.SILENCE)
    groups = decode(tuple[Group, ...], store.state(GROUPS) or b"[]")
    routed = route(alerts, groups, rules, silences, now)
    store.enqueue([_message(one, rules.receiver, name, now) for one in routed.notices for name in integrations])
    if routed.groups or groups:
        store.put_state(GROUPS, encode(routed.groups))
    return routed.reasons


def deliver_due(store: Store, notifiers: Mapping[str, Notifier], now: float, limit: int = 100) -> Delivery:
    """Try every message that is due once; `notifiers` by `receiver/integration`. Never raises for what a receiver does."""
    delivered, failed, dead = 0, Counter[tuple[str, str]](), []
    for message in store.due(now, limit):
        outcome, reason = _try(message, notifiers.get(message.receiver), now)
        store.settle(outcome, delivered=not reason)
        delivered += not reason
        failed.update({(message.receiver, reason): 1} if reason else {})
        dead += [outcome] if outcome.dead else []
    return Delivery(delivered, failed, tuple(dead))


def _try(message: Message, notifier: Notifier | None, now: float) -> tuple[Message, str]:
    """The message after one attempt, and the reason of its failure ('' where it was delivered)."""
    tried = replace(message, attempts=message.attempts + 1)
    if notifier is None:
        return replace(tried, dead=True, error="no such receiver is configured"), "no receiver"
    try:
        notifier.send(message)
    except Permanent as error:
        return replace(tried, dead=True, error=str(error)), "rejected"
    except Temporary as error:
        return _later(tried, str(error), now, error.after_s if isinstance(error, Busy) else 0.0), "unavailable"
    except Exception as error:  # the wall around one notifier, which may be a third party's
        return _later(tried, f"{type(error).__name__}: {error}", now), "defect"
    return replace(tried, error=""), ""


def _later(message: Message, error: str, now: float, asked_s: float = 0.0) -> Message:
    too_old = now - message.created_at > MAX_AGE_S
    return replace(message, error=error, dead=too_old, next_at=now + pause_s(message.id, message.attempts, asked_s))


def _message(notice: Notice, receiver: str, integration: str, now: float) -> Message:
    """A message whose id says what it tells: made again from the same news of the same group it is the same message."""
    told = [(alert.fingerprint, alert.ends_at is None, alert.starts_at) for alert in notice.alerts]
    id = digest([notice.key, notice.opened_at, notice.number, notice.reason, receiver, integration, told])[:32]
    body = webhook_body(notice, receiver)
    return Message(id=id, group=notice.key, receiver=f"{receiver}/{integration}", body=body, created_at=now)
