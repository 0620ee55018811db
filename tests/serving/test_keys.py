"""Credentials: scopes, hashes only, files that nobody else can read, and who needs which."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from palate.serving import keys
from palate.serving.keys import Keys
from palate.serving.settings import Settings, SettingsError, is_loopback


def test_a_key_is_made_shown_once_and_found_again(tmp_path: Path) -> None:
    secret = keys.add(tmp_path, "reader", ["read"])
    text = (tmp_path / keys.FILE).read_text()
    assert secret not in text
    assert hashlib.sha256(secret.encode()).hexdigest() in text
    found = Keys.load(tmp_path, {}).find(secret)
    assert found is not None
    assert (found.name, found.scopes) == ("reader", {"read"})
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), "\ud800", "é"):
        assert Keys.load(tmp_path, {}).find(wrong) is None
    assert (tmp_path / keys.FILE).stat().st_mode & 0o777 == 0o600


def test_the_first_key_lies_beside_the_hashes_for_its_owner_only(tmp_path: Path) -> None:
    secret = keys.first(tmp_path)
    assert (tmp_path / keys.FIRST).read_text().strip() == secret
    assert (tmp_path / keys.FIRST).stat().st_mode & 0o777 == 0o600
    found = Keys.load(tmp_path, {}).find(secret)
    assert found is not None
    assert found.scopes == {"read", "write", "admin"}
    keys.remove(tmp_path, "first")
    assert not (tmp_path / keys.FIRST).exists()
    assert Keys.load(tmp_path, {}).find(secret) is None


def test_two_first_keys_differ(tmp_path: Path) -> None:
    assert keys.first(tmp_path / "a") != keys.first(tmp_path / "b")


def test_keys_come_from_the_environment(tmp_path: Path) -> None:
    found = Keys.load(tmp_path, {"PALATE_KEYS": "read:" + "a" * 24 + " read+write:" + "b" * 24})
    assert len(found) == 2
    key = found.find("b" * 24)
    assert key is not None
    assert key.scopes == {"read", "write"}
    assert "aaaa" not in repr(found)


@pytest.mark.parametrize("text", ["admin:", "admin:short", ":" + "a" * 30, "root:" + "a" * 30, "a" * 40])
def test_a_bad_environment_is_refused_without_repeating_the_secret(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Keys.load(None, {"PALATE_KEYS": text})
    assert "aaaa" not in str(caught.value)
    assert "entry 1" in str(caught.value)


def test_a_file_others_can_read_or_a_link_is_refused(tmp_path: Path) -> None:
    keys.add(tmp_path, "one", ["read"])
    os.chmod(tmp_path / keys.FILE, 0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        Keys.load(tmp_path, {})
    os.chmod(tmp_path / keys.FILE, 0o600)
    (tmp_path / keys.FILE).rename(tmp_path / "elsewhere")
    (tmp_path / keys.FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="link"):
        Keys.load(tmp_path, {})


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"keys": 3}', '{"keys": [{"name": "a", "scopes": ["all"], "sha256": "00"}]}'])
def test_a_broken_file_is_refused(tmp_path: Path, content: str) -> None:
    keys.private(tmp_path / keys.FILE, content.encode())
    with pytest.raises(SettingsError):
        Keys.load(tmp_path, {})


def test_mistakes_in_names_and_scopes_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean 'write'"):
        keys.add(tmp_path, "one", ["wirte"])
    with pytest.raises(SettingsError, match="at least one scope"):
        keys.add(tmp_path, "one", [])
    keys.add(tmp_path, "reader", ["read"])
    with pytest.raises(SettingsError, match="already"):
        keys.add(tmp_path, "reader", ["read"])
    with pytest.raises(SettingsError, match="did you mean 'reader'"):
        keys.remove(tmp_path, "raeder")
    assert keys.names(tmp_path) == [("reader", ["read"])]


def test_the_log_key_stays(tmp_path: Path) -> None:
    assert keys.log_key(tmp_path) == keys.log_key(tmp_path)
    assert (tmp_path / keys.LOG_KEY).stat().st_mode & 0o777 == 0o600
    assert keys.log_key(None) != keys.log_key(None)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST", "::1", "[::1]", "::ffff:127.0.0.1"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "example", "localhost.example", "127.0.0.1.example", "", "2130706433", "::ffff:10.0.0.1"]
)
def test_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"port": -1}, {"port": 70000}, {"drain": -1.0}, {"stop": 20.0}, {"max_k": 0}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Settings(**wrong)  # type: ignore[arg-type]
