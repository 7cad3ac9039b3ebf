"""What an API server answers when it refuses: a `Status` object with code, reason and causes, as apimachinery words them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Refused(Exception):
    """A request that ends in a `Status`; `retry_after_s` becomes the Retry-After header."""

    def __init__(self, code: int, reason: str, message: str, causes: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.causes = code, reason, message, tuple(causes)
        self.retry_after_s: int | None = None

    def body(self) -> dict[str, Any]:
        """The `Status` object."""
        status: dict[str, Any] = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        }  # fmt: skip
        if self.reason:
            status["reason"] = self.reason
        if self.causes:
            status["details"] = {"causes": [{"reason": reason, "message": message} for reason, message in self.causes]}
        return status


def not_found(what: str, name: str) -> Refused:
    """404 for an object or a resource that is not there."""
    return Refused(404, "NotFound", f'{what} "{name}" not found')


def conflict(what: str, name: str, why: str) -> Refused:
    """409 for a compare-and-set that lost."""
    return Refused(409, "Conflict", f'Operation cannot be fulfilled on {what} "{name}": {why}')


def expired(version: int) -> Refused:
    """410 for a version that the server no longer remembers."""
    return Refused(410, "Expired", f"too old resource version: {version}")


def invalid(what: str, name: str, why: str, cause: str = "FieldValueInvalid") -> Refused:
    """422 for an object that breaks a rule of its kind."""
    return Refused(422, "Invalid", f'{what} "{name}" is invalid: {why}', [(cause, why)])


def malformed(why: str) -> Refused:
    """400 for a body that is none of its kind."""
    return Refused(400, "BadRequest", why)
