import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.sealed.secrets import Sealer, SecretKeyInvalid, key_file, new_api_key, new_id, read_keys

KEY, OTHER = b"k" * 32, b"o" * 32


@given(st.binary(max_size=200), st.text(max_size=20))
def test_what_was_sealed_opens_in_its_place(value: bytes, about: str) -> None:
    assert Sealer([KEY]).open(Sealer([KEY]).seal(value, about=about), about=about) == value


@given(st.integers(0, 10_000), st.integers(1, 255))
@pytest.mark.attack("2.1/20", defence="registry.sealed.secrets:Sealer")
def test_a_changed_seal_does_not_open(at: int, flip: int) -> None:
    sealed = bytearray(Sealer([KEY]).seal(b"value", about="agent/a"))
    sealed[at % len(sealed)] ^= flip
    with pytest.raises(SecretKeyInvalid):
        Sealer([KEY]).open(bytes(sealed), about="agent/a")


@pytest.mark.attack("2.1/20")
def test_a_seal_cannot_be_moved_to_another_place() -> None:
    sealed = Sealer([KEY]).seal(b"value", about="agent/a")
    with pytest.raises(SecretKeyInvalid, match="agent/b"):
        Sealer([KEY]).open(sealed, about="agent/b")


@pytest.mark.parametrize("length", [0, 1, 11, 12, 20])
def test_a_cut_seal_does_not_open(length: int) -> None:
    with pytest.raises(SecretKeyInvalid):
        Sealer([KEY]).open(Sealer([KEY]).seal(b"value", about="x")[:length], about="x")


def test_the_first_key_seals_and_all_open() -> None:
    old, new = Sealer([OTHER]).seal(b"old", about="x"), Sealer([KEY, OTHER]).seal(b"new", about="x")
    assert Sealer([KEY, OTHER]).open(old, about="x") == b"old"
    assert Sealer([KEY]).open(new, about="x") == b"new"
    with pytest.raises(SecretKeyInvalid):
        Sealer([OTHER]).open(new, about="x")


def test_equal_values_are_sealed_differently() -> None:
    sealer = Sealer([KEY])
    assert sealer.seal(b"value", about="x") != sealer.seal(b"value", about="x")


def test_a_configured_key_that_is_too_short_is_refused() -> None:
    with pytest.raises(SecretKeyInvalid, match="32"):
        read_keys(["k" * 32, "short"])


def test_the_key_file_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "hub.secret"
    first = key_file(path)
    assert key_file(path) == first
    assert len(first[0]) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["hub.secret"]


def test_processes_that_start_together_read_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        assert len({key[0] for key in threads.map(lambda _: key_file(tmp_path / "hub.secret"), range(64))}) == 1


@pytest.mark.attack("2.1/20")
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hub.secret"
    key_file(path)
    path.chmod(0o640)
    with pytest.raises(SecretKeyInvalid, match="chmod 600"):
        key_file(path)


@pytest.mark.parametrize("content", [b"", b"abc", b"not base64 !", b"YWJj"])
def test_a_key_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hub.secret"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SecretKeyInvalid, match="does not hold a key"):
        key_file(path)


def test_keys_and_ids_do_not_repeat() -> None:
    assert len({new_api_key() for _ in range(100)}) == 100
    assert len({new_id("key") for _ in range(100)}) == 100


def test_a_seal_that_is_the_same_each_time_opens_where_it_belongs_only() -> None:
    old, new = Sealer([b"o" * 32]), Sealer([b"n" * 32, b"o" * 32])
    sealed = old.seal_same(b"value", about="id")
    assert sealed == old.seal_same(b"value", about="id")
    assert len({sealed, new.seal_same(b"value", about="id"), old.seal_same(b"other", about="id")}) == 3
    assert new.open_same(sealed, about="id") == b"value"
    for wrong in (sealed[:-1], sealed[:5], b"", bytes([sealed[0] ^ 1]) + sealed[1:]):
        with pytest.raises(SecretKeyInvalid):
            old.open_same(wrong, about="id")
    with pytest.raises(SecretKeyInvalid):
        old.open_same(sealed, about="elsewhere")
    with pytest.raises(SecretKeyInvalid):
        Sealer([b"n" * 32]).open_same(sealed, about="id")
    assert old.seal(b"value", about="id") != old.seal(b"value", about="id")
