"""What operators tell the daemon: kill switch, pause, approve, silence, mode. Audited before it is answered.

An order is a row that the next cycle sees. Only the kill switch does not wait for it: engaging comes first and the audit
second, so that a broken database cannot keep effects going; releasing comes after its audit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aiops import settings
from aiops.action import Mode, Order, OrderKind
from aiops.api import idempotency, page
from aiops.api.auth import Caller, Role
from aiops.api.problem import Problem, bad, missing
from aiops.api.view import Seen, View, answer
from aiops.decide.request import plan_hash
from aiops.errors import Permanent, Temporary

router = APIRouter(prefix="/api/v1/orders", tags=["orders"], dependencies=[Depends(page.only_known)])
LOOSENING = (OrderKind.UNKILL, OrderKind.RESET_BREAKER, OrderKind.SET_MODE)
"""Orders that let the autopilot do more: an admin's. Operators may stop, pause, silence and approve."""
TARGETED = (OrderKind.APPROVE, OrderKind.SILENCE, OrderKind.SET_MODE)
Key = Annotated[str | None, Header(alias="Idempotency-Key", pattern=r"^[\x21-\x7e]{1,128}$")]


class Wish(BaseModel):
    """The body of a new order. `duration` (`30m`) limits it; without, it stands until undone. `mode` goes with set_mode."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)
    kind: OrderKind
    target: str = Field(default="", max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$")
    duration: settings.Seconds | None = None
    mode: Mode | None = None
    note: str = Field(default="", max_length=1000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")


@router.get("")
async def orders(view: Seen) -> Response:
    """Orders in force, oldest first."""
    now = view.clock.now()
    rows = await view.read(view.store.orders, now)
    return answer({"at": now, "halted": view.status().halted, "items": rows, "total": len(rows)})


@router.post("", status_code=201)
async def give(view: Seen, request: Request, key: Key = None) -> Response:
    """Give an order. With an Idempotency-Key, a repeat gets the first answer and has no second effect."""
    caller: Caller = request.scope["state"]["caller"]
    raw = await request.body()
    wish = parse(raw)
    _authorise(wish, caller)
    body = await view.read(_give, view, wish, caller, idempotency.Request(caller.name, key, raw))
    return Response(body, 201, media_type="application/json")


def parse(raw: bytes) -> Wish:
    """The wish in a request body. 400 for what is not JSON (NaN, deep nesting, bad UTF-8), 422 for a wrong value."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "invalid_json", f"body: expected JSON: {error}") from None
    if not isinstance(value, dict):
        raise bad("body", "an object with `kind`", 422)
    try:
        wish = Wish.model_validate(value)
    except ValidationError as error:
        wrong = settings.invalid(error, "body")
        raise bad(wrong.key, wrong.expected, 422) from None
    if (wish.kind is OrderKind.SET_MODE) != (wish.mode is not None):
        raise bad("mode", "observe, advise or act, with set_mode only", 422)
    if wish.kind in TARGETED and not wish.target.strip():
        raise bad("target", f"the name of what to {wish.kind.value}", 422)
    return wish


def _authorise(wish: Wish, caller: Caller) -> None:
    if wish.kind in LOOSENING and caller.role < Role.ADMIN:
        raise Problem(403, "forbidden", f"{wish.kind.value} lets the autopilot do more: an admin's token is needed")


def _give(view: View, wish: Wish, caller: Caller, request: idempotency.Request) -> bytes:
    """Audit and effect, one order at a time; blocks. The kill switch engages before anything that can fail or wait."""
    engages = wish.kind is OrderKind.KILL and not view.status().halted
    if wish.kind is OrderKind.KILL:
        _switch(view, True)
    with view.writing:
        answered = idempotency.earlier(view.store, request, view.clock.now())
        if answered is not None and not engages:
            return answered
        if answered is not None:  # a late repeat of a kill, after its unkill: it stands, so it is an order of its own
            request = replace(request, key=None)
        plan = _check_target(view, wish)
        order = _order(wish, caller, request, view.clock.now(), plan)
        _audit(view, order)
        if wish.kind is OrderKind.UNKILL:
            _switch(view, False)
        body = bytes(answer({"order": order, "halted": view.status().halted}).body)
        idempotency.keep(view.store, request, body, order.at)
        return body


def _switch(view: View, engaged: bool) -> None:
    """Tell the kill switch; its file is what survives a restart, and a full disk must not pass for success."""
    try:
        view.kill(engaged)
    except OSError as error:
        state = "IS engaged, but not over a restart" if engaged else "stays engaged"
        raise Problem(503, "kill_switch_file", f"the kill switch {state}: {error.strerror}") from None


def _order(wish: Wish, caller: Caller, request: idempotency.Request, now: float, plan: str) -> Order:
    until = None if wish.duration is None else now + wish.duration
    target, note = f"{wish.target}={wish.mode.value}" if wish.mode is not None else wish.target, wish.note
    if plan:  # an approval is of a plan, which the next cycles wish for again under other admission ids
        target, note = plan, f"{wish.target} {wish.note}".strip()
    return Order(id=request.order_id(now), at=now, by=caller.name, kind=wish.kind, target=target, until=until, note=note)


def _audit(view: View, order: Order) -> None:
    try:
        view.store.put_order(order)
    except (Temporary, Permanent) as error:
        engaged = "the kill switch IS engaged, but " if order.kind is OrderKind.KILL else ""
        raise Problem(503, "audit_failed", f"{engaged}the order could not be recorded: {error}") from None


def _check_target(view: View, wish: Wish) -> str:
    """A policy or admission that is not there is a mistake to be told, not an order to be kept; an approval's plan hash."""
    policies = view.settings.policies
    if wish.kind is OrderKind.SET_MODE and wish.target not in policies:
        raise bad("target", f"one of the policies: {', '.join(sorted(policies))}", 422)
    if wish.kind is OrderKind.APPROVE:
        try:
            admission, _ = view.store.admission(wish.target)
            return plan_hash(admission.decision.action)
        except KeyError:
            raise missing("decision", wish.target) from None
    return ""
