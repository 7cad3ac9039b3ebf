"""What a token says of itself; whatever else a file may hold, it says nothing."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.token import Claims, claims


def token(**found: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(found).encode()).decode().rstrip("=")
    return f"e30.{middle}.x"


@pytest.mark.parametrize(
    ("text", "expected", "why"),
    [
        (token(exp=123, iat=23, sun="ann"), Claims(expires_at=123.0, issued_at=23.0, user="ann"), "as Slurm writes it"),
        (token(exp=123, sub="ann") + "\n", Claims(expires_at=123.0, user="ann"), "as others do, in a file with its newline"),
        (token(exp="soon", iat=True, sun=7), Claims(), "not numbers, not a name"),
        (token(exp=float("inf")), Claims(), "not a time"),
        ("nonsense", Claims(), "no token"),
        ("a.b.c", Claims(), "no claims"),
        ("e30.WzFd.x", Claims(), "claims that are a list"),
        ("", Claims(), "nothing"),
        ("." * 20_000, Claims(), "too long to be one"),
    ],
)
def test_claims(text: str, expected: Claims, why: str) -> None:
    assert claims(text) == expected, why


@given(st.text(max_size=200))
def test_any_text_gives_claims(text: str) -> None:
    assert isinstance(claims(text), Claims)
