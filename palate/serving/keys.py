"""Credentials: scoped keys, kept as SHA-256 in a file of mode 0600, compared in constant time.

A key is 256 random bits, so a plain hash is enough: there is nothing to guess. The first start makes one key of every scope and leaves
it in ``first_key`` beside the hashes for the owner to take. ``PALATE_KEYS`` (``scopes:key`` parted by spaces, scopes joined by +) gives
keys from the environment, for containers.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.schema import nearest
from palate.serving.settings import Settings, SettingsError

SCOPES = ("read", "write", "admin")
FILE, FIRST, LOG_KEY = "keys.json", "first_key", "log_key"
SHORTEST = 20  #: characters of a key given by hand


@dataclass(frozen=True, slots=True)
class Key:
    """A named credential. ``digest`` is the SHA-256 of the secret; the secret itself is nowhere."""

    name: str
    scopes: frozenset[str]
    digest: bytes


class Keys:
    """All credentials of one service."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"Keys({', '.join(key.name for key in self._keys)})"

    def find(self, secret: str) -> Key | None:
        """The key with this secret. Every key is compared, each in constant time, so the answer's time tells nothing."""
        digest, found = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest(), None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    @classmethod
    def load(cls, folder: Path | None, environment: Mapping[str, str] = os.environ) -> Keys:
        """Keys of the environment and of ``folder``. ``SettingsError`` names a bad one without repeating its secret."""
        keys = list(_from_environment(environment.get("PALATE_KEYS", "")))
        if folder is not None and (folder / FILE).exists():
            keys += _read(folder / FILE)
        return cls(keys)


def check_reach(settings: Settings, keys: Keys, folder: Path | None) -> None:
    """SettingsError where others than this machine can reach the service and there is no key."""
    if not settings.loopback and not len(keys):
        raise SettingsError(
            f"{settings.host} can be reached from elsewhere and there is no key: make one with palate key add NAME --state {folder or 'STATE'} "
            "or give PALATE_KEYS, or serve on 127.0.0.1"
        )


def add(folder: Path, name: str, scopes: Sequence[str]) -> str:
    """Make a key, keep its hash in ``folder``, return the secret: it is shown this once."""
    wanted = _scopes(scopes, f"key {name!r}")
    known = _read(folder / FILE) if (folder / FILE).exists() else []
    if any(key.name == name for key in known):
        raise SettingsError(f"there is a key {name!r} already")
    secret = "palate_" + secrets.token_urlsafe(32)
    _write(folder, [*known, Key(name, wanted, hashlib.sha256(secret.encode()).digest())])
    return secret


def remove(folder: Path, name: str) -> None:
    """Take a key away; the running service forgets it at its next start."""
    known = _read(folder / FILE) if (folder / FILE).exists() else []
    if all(key.name != name for key in known):
        raise SettingsError(f"there is no key {name!r}{nearest(name, [key.name for key in known])}")
    _write(folder, [key for key in known if key.name != name])
    if name == "first":
        (folder / FIRST).unlink(missing_ok=True)


def names(folder: Path) -> list[tuple[str, list[str]]]:
    """Name and scopes of every key of ``folder``."""
    return [(key.name, sorted(key.scopes)) for key in (_read(folder / FILE) if (folder / FILE).exists() else [])]


def first(folder: Path) -> str:
    """Make the first key: every scope; its secret also lies in ``first_key`` (0600) until the owner takes it away."""
    secret = add(folder, "first", SCOPES)
    private(folder / FIRST, (secret + "\n").encode())
    return secret


def log_key(folder: Path | None) -> bytes:
    """The secret under which user ids are hashed in logs: stable for one state, useless elsewhere."""
    if folder is None:
        return secrets.token_bytes(32)
    if not (folder / LOG_KEY).exists():
        private(folder / LOG_KEY, secrets.token_bytes(32))
    return (folder / LOG_KEY).read_bytes()


def private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read; it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _scopes(scopes: Sequence[str], where: str) -> frozenset[str]:
    for scope in scopes:
        if scope not in SCOPES:
            raise SettingsError(f"{where}: no scope {scope!r}{nearest(scope, SCOPES)}")
    if not scopes:
        raise SettingsError(f"{where}: name at least one scope of {', '.join(SCOPES)}")
    return frozenset(scopes)


def _from_environment(text: str) -> list[Key]:
    keys = []
    for place, part in enumerate(text.split(), 1):
        scopes, colon, secret = part.partition(":")
        where = f"PALATE_KEYS, entry {place}"
        if not colon or len(secret) < SHORTEST:
            raise SettingsError(f"{where}: write scopes:key with a key of at least {SHORTEST} characters")
        keys.append(Key(f"environment-{place}", _scopes(scopes.split("+"), where), hashlib.sha256(secret.encode()).digest()))
    return keys


def _read(path: Path) -> list[Key]:
    if path.is_symlink():
        raise SettingsError(f"{path} is a link: keys are read from a plain file only")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise SettingsError(f"{path} can be read by others: chmod 600 it")
    try:
        entries = json.loads(path.read_text("utf-8"))["keys"]
        return [Key(str(e["name"]), _scopes(e["scopes"], str(path)), bytes.fromhex(e["sha256"])) for e in entries]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"{path} is not a file of keys: {error}") from None


def _write(folder: Path, keys: Sequence[Key]) -> None:
    entries = [{"name": key.name, "scopes": sorted(key.scopes), "sha256": key.digest.hex()} for key in keys]
    private(folder / FILE, json.dumps({"keys": entries}, indent=1).encode())
