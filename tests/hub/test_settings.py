import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub.settings import find, load, watch
from registry.declared.config import ConfigInvalid, Declared


def agent(name: str) -> str:
    return f"agents: {{{name}: {{url: 'http://x.example'}}}}\n"


@asynccontextmanager
async def watched(path: Path) -> AsyncIterator[asyncio.Queue[Declared | ConfigInvalid]]:
    """Watch `path`; yields what the watch says."""
    said: asyncio.Queue[Declared | ConfigInvalid] = asyncio.Queue()

    async def listen() -> None:
        async for change in watch(path):
            said.put_nowait(change)

    task = asyncio.create_task(listen())
    await asyncio.sleep(0)  # the content that is known is read before anything is waited for
    try:
        async with asyncio.timeout(30):
            yield said
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hub.yaml"
    path.write_text(agent("first"))
    return path


def test_the_named_file_is_used_else_hub_yaml_here_else_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find(None) is None
    Path("hub.yaml").touch()
    assert find(None) == Path("hub.yaml")
    assert find(Path("other.yaml")) == Path("other.yaml")


def test_without_a_file_nothing_is_declared() -> None:
    assert load(None) == Declared()


def test_variables_come_from_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBUB_TEST_URL", "http://from.example")
    file.write_text("agents: {a: {url: '${HUBBUB_TEST_URL}'}}")
    assert load(file).agents["a"].url == "http://from.example"


def test_an_env_file_is_found_beside_the_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=b\n")
    file.write_text("mcpServers: {a: {command: x, envFile: .env}}")
    assert load(file).servers["a"].env == (("A", "b"),)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read: No such file"), (b"a: 1\nb: \xff\n", ":2: is not UTF-8 text")]
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "hub.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigInvalid, match=said):
        load(path)


def test_a_provider_that_does_not_exist_is_told(file: Path) -> None:
    file.write_text("models: {a: {provider: opnai}}")
    with pytest.raises(ConfigInvalid, match="did you mean 'openai'"):
        load(file)


async def test_a_change_is_read_and_an_invalid_one_told_whole(file: Path) -> None:
    async with watched(file) as said:
        file.write_text(agent("second"))
        changed = await said.get()
        assert isinstance(changed, Declared)
        assert list(changed.agents) == ["second"]
        file.write_text("agnets: {}\nmodel: {}\n")
        invalid = await said.get()
        assert isinstance(invalid, ConfigInvalid)
        assert len(invalid.faults) == 2


async def test_a_file_that_an_editor_replaces_is_followed(file: Path, tmp_path: Path) -> None:
    async with watched(file) as said:
        for name in ("second", "third"):
            (tmp_path / "hub.yaml~").write_text(agent(name))
            (tmp_path / "hub.yaml~").replace(file)
            changed = await said.get()
            assert isinstance(changed, Declared)
            assert list(changed.agents) == [name]


async def test_a_config_map_whose_link_is_swapped_is_followed(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    for name in ("first", "second"):
        (mount / name).mkdir(parents=True)
        (mount / name / "hub.yaml").write_text(agent(name))
    (mount / "..data").symlink_to("first")
    (mount / "hub.yaml").symlink_to("..data/hub.yaml")
    async with watched(mount / "hub.yaml") as said:
        (mount / "..new").symlink_to("second")
        (mount / "..new").replace(mount / "..data")
        changed = await said.get()
        assert isinstance(changed, Declared)
        assert list(changed.agents) == ["second"]
