"""Of a checkpoint's folder only safetensors are read, and only those of the folder itself."""

import json
from pathlib import Path

import pytest

from joulelaw import InputError
from joulelaw.bench.workloads.weight_files import content_hash, weight_files

SHARDS = ["model-1.safetensors", "model-2.safetensors"]


def sharded(folder: Path, *names: object) -> Path:
    for name in SHARDS:
        (folder / name).write_bytes(b"weights")
    weights = {str(number): name for number, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    return folder


def test_one_file_is_preferred_to_an_index_and_an_index_names_each_shard_once(tmp_path: Path) -> None:
    sharded(tmp_path, *reversed(SHARDS), SHARDS[0])
    assert weight_files(tmp_path) == tuple(tmp_path / name for name in SHARDS)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert weight_files(tmp_path) == (tmp_path / "model.safetensors",)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("weights.bin", "names 'weights.bin', which is no .safetensors file of the same folder"),
        ("../outside.safetensors", "names '../outside.safetensors', which is no"),
        ("/tmp/outside.safetensors", "names '/tmp/outside.safetensors', which is no"),
        ("inner/shard.safetensors", "names 'inner/shard.safetensors', which is no"),
        ("other.safetensors", "names 'other.safetensors', which is not there"),
        (7, "is not an index of weights"),
    ],
)
def test_an_index_names_safetensors_of_its_own_folder_only(tmp_path: Path, name: object, expected: str) -> None:
    """The library joins such names unchecked, and gives what does not end in .safetensors to torch.load."""
    folder = tmp_path / "saved"
    (folder / "inner").mkdir(parents=True)
    for there in (tmp_path / "outside.safetensors", folder / "weights.bin", folder / "inner" / "shard.safetensors"):
        there.write_bytes(b"")
    with pytest.raises(InputError) as caught:
        weight_files(sharded(folder, SHARDS[0], name))
    assert f"model.safetensors.index.json {expected}" in str(caught.value)


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": [1]}', "[" * 100_000])
def test_what_is_no_index_is_told(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match="is not an index of weights; save"):
        weight_files(tmp_path)


def test_an_adapter_is_no_checkpoint(tmp_path: Path) -> None:
    """The library would load the model that it names, wherever that is."""
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="it has an adapter_config"):
        weight_files(tmp_path)


def test_a_hash_is_of_names_order_and_contents(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    for path, content in zip(paths, ("1", "2"), strict=True):
        path.write_text(content)
    before = content_hash(paths)
    assert content_hash(paths) == before != content_hash(paths[::-1])
    paths[1].write_text("3")
    assert content_hash(paths) != before
    with pytest.raises(InputError, match="c cannot be read"):
        content_hash([tmp_path / "c"])
