"""Secrets of a tracking server, and who may do what with them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from pathlib import Path

OWNER = "owner"


class Role(Enum):
    """Somebody who looks, or a job of the owner, which also writes."""

    READER = auto()
    WRITER = auto()


@dataclass(frozen=True)
class Keyring:
    """The secrets by name, those of readers as they are now; the one named ``owner`` may write.

    A browser shows a secret once, in the address that is opened, and has a session from then on. A session reads,
    whoever opened it: what a browser is made to send on behalf of another page changes nothing.
    """

    by_name: Callable[[], Mapping[str, str]]
    _session_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def of_header(self, header: str) -> Role | None:
        """The role that an Authorization header gives: ``Basic`` with name and secret, or ``Bearer`` with a secret."""
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "bearer":
            return self._role(lambda name, secret: _same(value.strip(), secret))
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                return None
            return self._role(lambda name, secret: _same(given, f"{name}:{secret}"))
        return None

    def session(self, token: str) -> str | None:
        """The cookie that a browser keeps after it has shown ``token``; None if it is nobody's."""
        for name, secret in self._secrets():
            # the owner's own secret is never part of an address
            if _same(token, view_token(secret)) or (name != OWNER and _same(token, secret)):
                return self._session(secret)
        return None

    def is_session(self, value: str) -> bool:
        """True for a session of this server, of somebody who still may look."""
        return self._role(lambda _, secret: _same(value, self._session(secret))) is not None

    def _role(self, fits: Callable[[str, str], bool]) -> Role | None:
        # every secret is compared, also after one that fits
        fitting = [name for name, secret in self._secrets() if fits(name, secret)]
        if not fitting:
            return None
        return Role.WRITER if OWNER in fitting else Role.READER

    def _session(self, secret: str) -> str:
        return hmac.new(self._session_key, secret.encode(), hashlib.sha256).hexdigest()

    def _secrets(self) -> Iterator[tuple[str, str]]:
        # an empty file is nobody's secret
        return ((name, secret) for name, secret in self.by_name().items() if secret)


@lru_cache(maxsize=256)
def view_token(secret: str) -> str:
    """A stand-in for ``secret`` in an address that a browser opens: it lets look, and does not give the secret away.

    Slow to compute, so that a password that somebody chose is not found by trying.
    """
    key = hashlib.scrypt(secret.encode(), salt=b"vswin: look, do not write", n=2**14, r=8, p=1, dklen=24)
    return base64.urlsafe_b64encode(key).decode()


def secrets_in(folder: Path) -> Callable[[], dict[str, str]]:
    """The secrets in ``folder``: ``owner-password``, made if it is not there, and a file per reader in ``readers``.

    Raises PermissionError where others may read one.
    """
    owner, readers = folder / "owner-password", folder / "readers"
    readers.mkdir(mode=0o700, exist_ok=True)
    if not owner.exists() or not owner.stat().st_size:
        owner.touch(mode=0o600)
        owner.write_text(f"{secrets.token_urlsafe(24)}\n")
    for path in (owner, readers):
        if path.stat().st_mode & 0o077:
            raise PermissionError(f"others may read {path}; expected mode 600 or 700: chmod go= {path}")

    def by_name() -> dict[str, str]:
        files = {path.name: path for path in readers.iterdir() if path.is_file()} | {OWNER: owner}
        return {name: path.read_text().strip() for name, path in files.items()}

    return by_name


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
