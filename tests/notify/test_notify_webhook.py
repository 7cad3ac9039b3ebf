"""The webhook against a real HTTP receiver that fails in every way a receiver fails, and delivery out of a real outbox."""

import json
import socket
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import new as hmac
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from aiops.clock import ManualClock
from aiops.errors import ConfigError, Permanent, Temporary
from aiops.model import Cause, Finding, SeriesKey
from aiops.notify.alert import from_findings
from aiops.notify.backoff import LONGEST_ASKED_S, LONGEST_S, Busy, pause_s
from aiops.notify.deliver import GROUPS, MAX_AGE_S, deliver_due, queue_notices
from aiops.notify.route import Reason
from aiops.notify.webhook import WebhookNotifier, read_keys, sign
from aiops.ports import Message, Notifier
from aiops.settings import Route, Settings
from aiops.store.memory import MemoryStore
from aiops.store.opening import open_store
from aiops.testing.examples import message

RULES = Route(receiver="ops", group_wait=30.0)


@dataclass
class Receiver:
    """What the receiver will answer, one after the other (then 200), and what it got."""

    url: str = ""
    script: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    leave: Event = field(default_factory=Event)


def answer(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def act(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()

    return act


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    room = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            room.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            (room.script.pop(0) if room.script else answer(200))(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    room.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield room
    room.leave.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_message_arrives_verbatim_and_its_signature_verifies(receiver: Receiver) -> None:
    old, new = b"o" * 32, b"n" * 24
    WebhookNotifier(receiver.url, (new, old), clock=ManualClock(wall=1700000000.9)).send(message("m1"))
    ((headers, body),) = receiver.got
    assert (body, headers["webhook-id"], headers["webhook-timestamp"]) == (message("m1").body, "m1", "1700000000")
    for key, signature in zip((new, old), headers["webhook-signature"].split(), strict=True):
        version, code = signature.split(",")
        assert (version, b64decode(code)) == ("v1", hmac(key, b"m1.1700000000." + body, sha256).digest())


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    # the reference vector of the Standard Webhooks libraries
    key = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("status", "headers", "error", "why"),
    [
        (500, {}, Temporary, "a server's own fault passes"),
        (503, {}, Temporary, "so does overload"),
        (429, {"Retry_After": "7"}, Busy, "and the wish for a pause"),
        (408, {}, Temporary, "a time-out of the receiver"),
        (400, {}, Permanent, "the body will not get better"),
        (401, {}, Permanent, "nor will the credentials"),
        (410, {}, Permanent, "gone for good"),
        (302, {"Location": "http://169.254.169.254/"}, Permanent, "redirects are not followed"),
    ],
)
def test_answers_are_told_apart(
    receiver: Receiver, status: int, headers: dict[str, str], error: type[Exception], why: str
) -> None:
    receiver.script = [answer(status, **headers)]
    with pytest.raises(error) as caught:
        WebhookNotifier(receiver.url).send(message("m1"))
    assert len(receiver.got) == 1, why
    assert not isinstance(caught.value, Busy) or caught.value.after_s == (7.0 if headers else 0.0)


def test_a_receiver_that_hangs_or_drips_is_left_in_time(receiver: Receiver) -> None:
    def hang(request: BaseHTTPRequestHandler) -> None:
        receiver.leave.wait(10)
        request.close_connection = True

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
        while not receiver.leave.wait(0.05):
            request.wfile.write(b"y")
            request.wfile.flush()

    receiver.script = [hang, drip]
    for _ in range(2):
        with pytest.raises(Temporary):
            WebhookNotifier(receiver.url, timeout_s=0.2).send(message("m1"))


def test_nobody_at_the_address_is_temporary() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    with pytest.raises(Temporary):
        WebhookNotifier(url, timeout_s=1.0).send(message("m1"))


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({}, "webhook.url"),
        ({"url": "ftp://x/"}, "webhook.url"),
        ({"url": "http://u:secret@x/"}, "webhook.url"),
        ({"url": "http://x/", "colour": 1}, "webhook.colour"),
        ({"url": "http://x/", "timeout": "2h"}, "webhook.timeout"),
        ({"url": "http://x/", "secret_file": "/nowhere"}, "webhook.secret_file"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(section: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        WebhookNotifier.from_settings(section, "aiops.yaml")
    assert caught.value.key == key
    assert "secret@" not in str(caught.value)


def test_keys_come_from_a_file_and_are_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = [b"a" * 24, b"b" * 64]
    path.write_text("\n".join("whsec_" + b64encode(key).decode() for key in keys) + "\n")
    assert read_keys(path, "aiops.yaml") == tuple(keys)
    for wrong in ("", "whsec_c2hvcnQ=", "nonsense-key", "whsec_***"):
        path.write_text(wrong)
        with pytest.raises(ConfigError) as caught:
            read_keys(path, "aiops.yaml")
        assert not wrong or wrong not in str(caught.value)


def test_pauses_double_up_to_a_cap_and_are_the_same_every_time() -> None:
    pauses = [pause_s("m1", attempts) for attempts in range(1, 40)]
    assert pauses == [pause_s("m1", attempts) for attempts in range(1, 40)]
    assert all(0.5 * min(LONGEST_S, 2.0**i) <= p <= min(LONGEST_S, 2.0**i) for i, p in enumerate(pauses))
    assert pause_s("m1", 5) != pause_s("m2", 5)
    assert pause_s("m1", 1, 60.0) == 60.0
    assert pause_s("m1", 1, 1e9) == LONGEST_ASKED_S


def test_a_receiver_that_is_down_gets_everything_in_order_when_it_is_back(receiver: Receiver) -> None:
    store, notifiers = MemoryStore(), {"r": WebhookNotifier(receiver.url)}
    store.enqueue([message("m1"), message("m2"), message("m3", "other")])
    receiver.script = [answer(500), answer(429, Retry_After="120"), answer(503)]
    first = deliver_due(store, notifiers, 1.7e9)
    assert (first.delivered, dict(first.failed)) == (0, {("r", "unavailable"): 2})
    assert first.counts() == {SeriesKey.of("aiops_notifications_failed_total", integration="r", reason="unavailable"): 2}
    assert deliver_due(store, notifiers, 1.7e9).delivered == 0
    now = 1.7e9
    for _ in range(10):
        now += 120
        deliver_due(store, notifiers, now)
    delivered = [headers["webhook-id"] for headers, _ in receiver.got[3:]]
    assert delivered == ["m1", "m3", "m2"] or delivered == ["m3", "m1", "m2"]
    assert store.due(now + 1e9) == ()


class Broken:
    """A third party's notifier with a defect."""

    name = "broken"

    def send(self, message: Message) -> None:
        raise ZeroDivisionError("oops")


@pytest.mark.parametrize(
    ("notifiers", "age_s", "reason", "dead"),
    [
        ({}, 0.0, "no receiver", True),
        ({"r": Broken()}, 0.0, "defect", False),
        ({"r": Broken()}, MAX_AGE_S + 1, "defect", True),
    ],
)
def test_what_cannot_be_delivered_is_kept_counted_and_seen(
    notifiers: dict[str, Notifier], age_s: float, reason: str, dead: bool
) -> None:
    store = MemoryStore()
    store.enqueue([message("m1")])
    pass_ = deliver_due(store, notifiers, message("m1").created_at + age_s)
    assert dict(pass_.failed) == {("r", reason): 1}
    assert [one.id for one in pass_.dead] == [one.id for one in store.dead_letters()] == (["m1"] if dead else [])


def finding(subject: str) -> Finding:
    return Finding(id=subject, at=0.0, cause=Cause.GPU_FAULT, subject=subject, score=1.0, confidence=1.0)


def test_from_a_finding_over_a_restart_to_the_receiver_and_to_its_end(receiver: Receiver, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    notifiers = {"ops/webhook": WebhookNotifier(receiver.url)}
    reasons = []
    for now, subjects in ((0.0, ["gpu/1"]), (30.0, ["gpu/1"]), (330.0, [])):
        store = open_store(None, settings)  # a restart before every step
        alerts = from_findings([finding(subject) for subject in subjects], 0.5)
        reasons += queue_notices(store, alerts, RULES, ["webhook"], now).values()
        store.close()
        store = open_store(None, settings)
        deliver_due(store, notifiers, now)
        store.close()
    assert reasons == [Reason.WAITING, Reason.FIRST, Reason.ALL_RESOLVED]
    bodies = [json.loads(body) for _, body in receiver.got]
    assert [body["status"] for body in bodies] == ["firing", "resolved"]
    assert bodies[0]["alerts"][0]["fingerprint"] == bodies[1]["alerts"][0]["fingerprint"]


def test_a_crash_between_outbox_and_group_state_tells_nothing_twice_and_loses_nothing() -> None:
    rules = RULES.model_copy(update={"group_by": ("alertname",)})
    store, one, two = (
        MemoryStore(),
        from_findings([finding("gpu/1")], 0.5),
        from_findings(map(finding, ("gpu/1", "gpu/2")), 0.5),
    )
    queue_notices(store, one, rules, ["webhook"], 0.0)
    before = store.state(GROUPS) or b""
    queue_notices(store, one, rules, ["webhook"], 30.0)
    (first,) = store.due(30.0)
    store.settle(first, delivered=True)
    store.put_state(GROUPS, before)  # as if the process had died before the groups were kept
    queue_notices(store, one, rules, ["webhook"], 40.0)
    assert store.due(40.0) == ()
    store.put_state(GROUPS, before)
    queue_notices(store, two, rules, ["webhook"], 50.0)  # the same notice, but by now with more in it
    (second,) = store.due(50.0)
    assert len(json.loads(second.body)["alerts"]) == 2
