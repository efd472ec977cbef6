"""What an API process can be told. Room: serving. Built once, in `cli`, checked whole and frozen."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from events.errors import SettingsError
from events.redis_protocol import shown


class ServingSettings(BaseSettings):
    """Settings of one API process, from arguments, then ``KAIROS_*`` variables."""

    model_config = SettingsConfigDict(env_prefix="KAIROS_", frozen=True, extra="ignore", env_ignore_empty=True)

    log_url: str = Field(description="event log: `redis://`, `unix://` or `kafka://host:port/topic`")
    store_url: str = Field(description="state store: `redis://` or `unix://`")
    data_dir: Path = Field(Path(".kairos"), description="models are loaded from `<data_dir>/models`")
    secret_key: SecretStr | None = Field(None, description="key of imports, catalogue writes and all else")
    publishable_key: SecretStr | None = Field(
        None, description="key that storefronts send as `X-API-Key`; when set, nothing is open without a key"
    )
    cors_origins: tuple[str, ...] = Field(
        ("*",), description="origins whose pages may call events and recommendations; no others are ever allowed"
    )

    store_timeout_ms: int = Field(100, ge=1, le=5_000, description="how long an answer waits for the store")
    wait_ms: int = Field(20, ge=0, le=1_000, description="default wait for the event named by `after`")
    breaker_open_ms: int = Field(500, ge=10, description="pause after three timeouts in a row, then one probe")
    log_impressions: bool = Field(True, description="append what was shown to the log (`view_item_list`, served)")
    impressions_buffer: int = Field(10_000, ge=1, description="impressions that may wait; more are dropped and counted")

    shed_lag_ms: int = Field(30_000, ge=100, description="intake answers 429 when the flow is this far behind")
    shed_memory_share: float = Field(0.9, gt=0, le=1, description="… or the store this full, of `maxmemory`")
    shed_memory_bytes: int = Field(0, ge=0, description="… or beyond this many bytes; 0: no such limit")

    def check(self) -> None:
        """Raise `SettingsError` for an address that no attempt will reach."""
        for name, url, schemes in (
            ("log", self.log_url, ("redis", "rediss", "unix", "kafka")),
            ("store", self.store_url, ("redis", "rediss", "unix")),
        ):
            if url.partition("://")[0] not in schemes:
                raise SettingsError(
                    f"the {name} cannot be at {shown(url)}: use one of {', '.join(s + '://' for s in schemes)}"
                )
