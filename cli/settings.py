"""Settings of a command: defaults, then ``KAIROS_*`` variables, then options. Room: cli.

Read once per process, in the command's first line, checked whole and frozen. No other module reads the environment.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from events.errors import SettingsError

_REPOSITORY = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """What `kairos up`, `status` and `demo` can be told; the description is the row of the README's table."""

    model_config = SettingsConfigDict(env_prefix="KAIROS_", frozen=True, extra="ignore", env_ignore_empty=True)

    data_dir: Path = Field(Path(".kairos"), description="state, models, secret key and logs of the embedded stack")
    host: str = Field("127.0.0.1", description="address that the API listens on")
    port: int = Field(8000, ge=0, le=65535, description="port of the API; 0: any free one")
    log_url: str | None = Field(
        None, description="event log, `redis://`, `unix://` or `kafka://host:port/topic`; unset: in the state store"
    )
    store_url: str | None = Field(None, description="state store, `redis://` or `unix://`; unset: the embedded Valkey")
    api_workers: int = Field(1, ge=1, le=64, description="API processes on one listening socket")
    flow_processes: int = Field(1, ge=1, le=64, description="feature flows; partitions are split evenly among them")
    partitions: int | None = Field(
        None, ge=1, le=1024, description="partitions of a new log (4); an old one keeps its own"
    )
    secret_key: SecretStr | None = Field(
        None, description="key for imports and catalogue writes; unset: made in `<data_dir>/secret.key`"
    )
    data: Path = Field(
        _REPOSITORY.parent / "shared" / "data", description="data sets for `replay`, `train`, `demo` and the tests"
    )


_Kind = TypeVar("_Kind", bound=BaseSettings)


def load(**options: Any) -> Settings:
    """Return the settings of this process; options that are None were not given.

    Raises
    ------
    SettingsError
        A value that cannot be used, named with where it came from.
    """
    return checked(Settings, **options)


def checked(kind: type[_Kind], **options: Any) -> _Kind:
    """Return settings of any kind, as `load` does."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return kind(**given)
    except ValidationError as err:
        raise SettingsError("; ".join(_line(problem, given) for problem in err.errors())) from err


def _line(problem: Any, given: dict[str, Any]) -> str:
    name = str(problem["loc"][0])
    origin = f"--{name.removesuffix('_url').replace('_', '-')}" if name in given else f"KAIROS_{name.upper()}"
    shown = "" if name.endswith("_key") else f" {problem['input']!r}"
    return f"{origin}{shown}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def table(kind: type[BaseSettings] = Settings, *, without: Collection[str] = ()) -> str:
    """Return settings as a Markdown table, for docs/operations.md."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in kind.model_fields.items():
        if name not in without:
            default = "" if field.default is None else f"`{_shown(field.default)}`"
            rows.append(f"| `KAIROS_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def _shown(default: Any) -> str:
    if isinstance(default, Path) and default.is_absolute():
        return "../shared/data"  # beside the repository, wherever that is
    return ", ".join(default) if isinstance(default, tuple) else str(default)
