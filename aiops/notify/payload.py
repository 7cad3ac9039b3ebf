"""The body of a notification: Alertmanager's webhook, version 4, field by field (as of Alertmanager 0.34). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from aiops.model import Labels
from aiops.notify.alert import Alert
from aiops.notify.route import Notice

VERSION = "4"
NOT_ENDED = "0001-01-01T00:00:00Z"  # Go's zero time: what receivers of Alertmanager's webhook take for "still firing"
MAX_ALERTS = 500  # of one body, about 0.5 MB: receivers such as PagerDuty stop at 512,000 bytes; `truncatedAlerts` has the rest


def webhook_body(notice: Notice, receiver: str, external_url: str = "") -> bytes:
    """JSON bytes of one notification. `external_url` is where people find this aiops."""
    firing = any(alert.ends_at is None for alert in notice.alerts)
    return orjson.dumps(
        {
            "version": VERSION,
            "groupKey": notice.key,
            "truncatedAlerts": max(0, len(notice.alerts) - MAX_ALERTS),
            "receiver": receiver,
            "status": "firing" if firing else "resolved",
            "alerts": [_alert(alert, external_url) for alert in notice.alerts[:MAX_ALERTS]],
            "groupLabels": dict(notice.labels),
            "commonLabels": _common([alert.labels for alert in notice.alerts]),
            "commonAnnotations": _common([alert.annotations for alert in notice.alerts]),
            "externalURL": external_url,
            "notification_reason": notice.reason.value,
            "routeLabels": {},
        }
    )


def _alert(alert: Alert, external_url: str) -> dict[str, object]:
    return {
        "status": "firing" if alert.ends_at is None else "resolved",
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": _rfc3339(alert.starts_at),
        "endsAt": NOT_ENDED if alert.ends_at is None else _rfc3339(alert.ends_at),
        "generatorURL": external_url,
        "fingerprint": alert.fingerprint,
    }


def _common(all_labels: Sequence[Labels]) -> dict[str, str]:
    """Pairs that every one of them has."""
    shared = set(all_labels[0]).intersection(*all_labels[1:]) if all_labels else set()
    return dict(sorted(shared))


def _rfc3339(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
