"""The kill switch: API, file and signal stop effects within a second, also with the database down and after a restart.

The file is the truth that survives; the flag in memory makes the API and the signal immediate. Alerts and ingest never ask.
"""

from __future__ import annotations

from pathlib import Path


class KillSwitch:
    """Engaged while the flag is set or the file exists; asked right before every single effect."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engaged = False

    def engaged(self) -> bool:
        """True where no effect may start; a file that cannot be looked at counts as engaged."""
        try:
            return self._engaged or self.path.exists()
        except OSError:
            return True

    def set(self, engaged: bool) -> None:
        """Engage or release; the flag first, so that even a full disk cannot keep effects going."""
        self._engaged = engaged or self._engaged
        if engaged:
            self.path.touch()
        else:
            self.path.unlink(missing_ok=True)
            self._engaged = False
