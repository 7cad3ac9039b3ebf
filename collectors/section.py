"""A collector's own section of the configuration, validated: an unknown key or a wrong value is one ConfigError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from aiops.settings import Section, invalid

Options = TypeVar("Options", bound=Section)


def parse(model: type[Options], section: Mapping[str, Any], where: str, name: str) -> Options:
    """The section of collector `name` as `model`; ConfigError(where, dotted key, what was expected) if it is wrong."""
    try:
        return model.model_validate(dict(section))
    except ValidationError as error:
        raise invalid(error, where, f"collectors.{name}") from None
