"""The error tree. Adapters translate vendor exceptions into these, each in one function.

    AiopsError
    ├── UserError             what a person gave us is wrong: one line, exit status 2 or a 4xx, never a traceback
    │   ├── ConfigError       file, key, and what was expected
    │   └── InputError        a data file: file, line number, and what was expected
    ├── NoData                a source is not present on this host: quiet, not a fault (a CPU node has no GPUs)
    ├── Temporary             worth another look in a later cycle: time-out, 429, 5xx, locked database
    │   ├── Unreadable        the cluster or the store could not be read whole: the cycle abstains
    │   └── Fenced            another daemon holds the lease: this one must not act
    └── Permanent             will not get better by itself: revoked credentials, a missing permission

`except Exception` is allowed at the walls only: around one collector, one policy, one model fit.
"""


class AiopsError(Exception):
    """Root of everything that aiops raises on purpose."""


class UserError(AiopsError):
    """A person's input is wrong; `str(error)` is the one line that they should see."""


class ConfigError(UserError):
    """A configuration value is wrong. `where` is the file, `key` the dotted path, `expected` what would be right."""

    def __init__(self, where: str, key: str, expected: str) -> None:
        super().__init__(f"{where}: {key}: {expected}" if key else f"{where}: {expected}")
        self.where, self.key, self.expected = where, key, expected


class InputError(UserError):
    """A data file is wrong. `line` is 1-based and counts the header; 0 means the file as a whole."""

    def __init__(self, path: str, line: int, expected: str) -> None:
        super().__init__(f"{path}:{line}: {expected}" if line else f"{path}: {expected}")
        self.path, self.line, self.expected = path, line, expected


class NoData(AiopsError):
    """The source does not exist here; the collector is idle, not broken."""


class Temporary(AiopsError):
    """Try again in a later cycle; never retried inside one."""


class Unreadable(Temporary):
    """A picture of the cluster or the store could not be completed; half a picture is never returned."""


class Fenced(Temporary):
    """The caller's epoch is not the current one: another daemon leads."""


class Permanent(AiopsError):
    """Needs a person."""
