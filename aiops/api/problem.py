"""Errors as RFC 9457 problem documents: one stable code, one clear sentence, never a traceback.

The `code` is English and stable (dashboards translate it); `key` and `expected` say what to change.
"""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from aiops import codec
from aiops.errors import Temporary, UserError

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is not a success. `key` names the input at fault and `expected` what would be right."""

    def __init__(self, status: int, code: str, detail: str, *, key: str = "", expected: str = "") -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.key, self.expected = status, code, detail, key, expected

    def response(self) -> Response:
        """The problem document as a response."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        } | {name: value for name, value in (("key", self.key), ("expected", self.expected)) if value}
        headers = {"WWW-Authenticate": "Bearer"} if self.status == HTTPStatus.UNAUTHORIZED else {}
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = "10"  # one default cycle
        return Response(codec.encode(body), self.status, headers, MEDIA_TYPE)


def bad(key: str, expected: str, status: int = 400) -> Problem:
    """The problem of one wrong input."""
    return Problem(status, "invalid_input", f"{key}: expected {expected}", key=key, expected=expected)


def missing(kind: str, name: str) -> Problem:
    """The problem of naming something that is not there; long names are cut, so that an answer stays one line."""
    return Problem(404, "not_found", f"no {kind} named {name[:120]!r}")


def stale(code: str, detail: str) -> Problem:
    """The problem of having no trustworthy answer now: a consumer must fall back, never read zero."""
    return Problem(503, code, detail)


def install(app: FastAPI) -> None:
    """Make every failure of `app` a problem document."""
    app.add_exception_handler(Problem, _own)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Temporary, _temporary)
    app.add_exception_handler(UserError, _user)
    app.add_exception_handler(Exception, _unforeseen)


async def _own(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _routing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    response = Problem(status, status.name.lower(), f"{status.phrase}: {request.method} {request.url.path[:120]}").response()
    response.headers.update(error.headers or {})
    return response


async def _validation(request: Request, error: Exception) -> Response:
    """The first wrong input; a well-formed body of the wrong shape is 422, a wrong parameter 400."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place, *path = [str(part) for part in first["loc"]]
    message = str(first["msg"]).removeprefix("Value error, ")
    return bad(".".join(path) or place, f"{message[:1].lower()}{message[1:]}", 422 if place == "body" else 400).response()


async def _temporary(request: Request, error: Exception) -> Response:
    return stale("unavailable", f"the store cannot be read now: {error}").response()


async def _user(request: Request, error: Exception) -> Response:
    return Problem(400, "invalid_input", str(error)).response()


async def _unforeseen(request: Request, error: Exception) -> Response:
    """A bug of ours: the log has the traceback (the server logs it), the caller learns that it was not their fault."""
    return Problem(500, "internal", "an internal error occurred; the daemon's log has the details").response()
