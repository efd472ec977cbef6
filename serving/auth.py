"""Who may do what: a secret key, an optional publishable key. Room: serving.

With no key configured (a laptop), everything is open but imports of the past. A secret key closes catalogue writes and
imports; a publishable key closes the rest too: pages send it for events and recommendations, all else needs the secret.
"""

from __future__ import annotations

from secrets import compare_digest

from pydantic import SecretStr
from starlette.requests import Request

from serving.errors import Forbidden, Unauthorized


class Access:
    """Checks the keys of requests."""

    def __init__(self, secret: SecretStr | None, publishable: SecretStr | None) -> None:
        self._secret = secret.get_secret_value().encode() if secret else b""
        self._publishable = publishable.get_secret_value().encode() if publishable else b""

    @property
    def has_secret(self) -> bool:
        return bool(self._secret)

    @property
    def has_publishable(self) -> bool:
        return bool(self._publishable)

    def widget(self, request: Request) -> None:
        """Events and recommendations: open, or the publishable key, or the secret one."""
        if self._publishable and not self._is_publishable(request):
            self._need_secret(request)

    def read(self, request: Request) -> None:
        """Profiles: open until a publishable key says that the world can reach us."""
        if self._publishable:
            self._need_secret(request)

    def write(self, request: Request) -> None:
        """The catalogue: open until there is a secret key."""
        if self._secret or self._publishable:
            self._need_secret(request)

    def history(self, request: Request) -> None:
        """Imports of the past: the secret key, always."""
        if not self._secret:
            detail = "an import of the past needs the secret key, and none is configured: set KAIROS_SECRET_KEY"
            raise Forbidden(detail, code="no_secret_key")
        self._need_secret(request)

    def _need_secret(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if self._secret and scheme.lower() == "bearer" and compare_digest(key.strip().encode(), self._secret):
            return
        if self._is_publishable(request):
            raise Forbidden("the publishable key is for events and recommendations only: send the secret key")
        raise Unauthorized(
            "send the secret key as 'Authorization: Bearer …' (kairos up keeps it in <data_dir>/secret.key)"
        )

    def _is_publishable(self, request: Request) -> bool:
        given = request.headers.get("x-api-key", "").encode()
        return bool(self._publishable) and compare_digest(given, self._publishable)
