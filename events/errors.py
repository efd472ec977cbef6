"""The error tree of the whole house, drawn in its lowest room.

Each room translates its client's exceptions at its own edge, cause chained. Over HTTP `serving/errors.py`
maps a class to a status and a problem type; on the command line a message is one line and the exit code 2.
"""

from __future__ import annotations


class KairosError(Exception):
    """Base of all that Kairos raises on purpose."""


class SettingsError(KairosError, ValueError):
    """A setting, argument or file that cannot be used as given."""


class EventError(KairosError, ValueError):
    """An event that cannot be accepted.

    Parameters
    ----------
    detail
        What is wrong and the remedy, one sentence or two.
    pointer
        JSON pointer (RFC 6901) of the field, ``""`` for the whole event.
    code
        Stable snake_case word for programs.
    """

    def __init__(self, detail: str, *, pointer: str = "", code: str = "invalid_event") -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer
        self.code = code


class LogError(KairosError):
    """The event log cannot serve: unreachable, re-created, trimmed, of another shape."""


class LogTimeout(LogError, TimeoutError):
    """The log did not answer in time; the outcome of an append is unknown."""


class PositionLost(LogError):
    """A consumer's position does not exist in this log any more (or not yet); the message says the way out."""


class StoreError(KairosError):
    """The state store cannot serve."""


class StoreTimeout(StoreError, TimeoutError):
    """The state store did not answer in time."""


class Fenced(StoreError):
    """Somebody else committed this partition: all cached state must be dropped and the process must exit."""


class ModelError(KairosError):
    """A model artefact that cannot be used."""


class UnknownModel(ModelError, LookupError):
    """No model of that name or version."""
