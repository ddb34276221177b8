"""A sweep's checkpoints and texts: read without torch, held against its axes, and never outside its own folder."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from joulelaw import InputError
from joulelaw.bench.spec.configuration import TextData
from joulelaw.bench.spec.sweep_file import load_sweep
from tests.bench.texts import save_tokenizer, study_folder, write_csv

BERT = {
    "model_type": "bert",
    "num_hidden_layers": 3,
    "hidden_size": 96,
    "num_attention_heads": 6,
    "intermediate_size": 200,
    "vocab_size": 777,
    "max_position_embeddings": 64,
}
GPT2 = {"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2, "vocab_size": 555, "n_positions": 32}
GRID = "{sequence_length: 32, micro_batch_size: 2, vocab_size: 32, num_layers: 1, hidden_size: 64}"
FROM_CHECKPOINT = "{checkpoint: saved, sequence_length: 32, micro_batch_size: 2}"


def save(folder: Path, **config: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def write(folder: Path, *grids: str, rest: str = "") -> Path:
    path = folder / "sweep.yaml"
    path.write_text("schema: 1\nname: files\ngrids:\n" + "".join(f"  - {grid}\n" for grid in grids) + rest)
    return path


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_sweep(path)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_a_checkpoint_decides_family_and_sizes(tmp_path: Path) -> None:
    save(tmp_path / "saved", **BERT)
    save(tmp_path / "other", **GPT2)
    grid = FROM_CHECKPOINT.replace("saved", "[saved, ./other/]")
    first, second = (each.configuration for each in load_sweep(write(tmp_path, grid)).asked)
    sizes = ("model_family", "num_layers", "hidden_size", "num_heads", "intermediate_size", "vocab_size", "checkpoint")
    assert [getattr(first, name) for name in sizes] == ["bert", 3, 96, 6, 200, 777, "saved"]
    assert [getattr(second, name) for name in sizes] == ["gpt2", 2, 64, 2, 256, 555, "other"], "its FFN is 4 x as wide"
    named = FROM_CHECKPOINT.replace("{", "{num_layers: 3, model_family: bert, ")
    assert load_sweep(write(tmp_path, named)).asked[0].configuration == first


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("num_layers: [3, 4]", "4:4 grids[0].num_layers: 4, but the checkpoint 'saved' has 3; leave it to"),
        ("model_family: gpt2", "4:4 grids[0].model_family: 'gpt2', but the checkpoint 'saved' has 'bert'"),
        ("vocab_size: 30522", "4:4 grids[0].vocab_size: 30522, but the checkpoint 'saved' has 777"),
        ("intermediate_size: 384", "4:4 grids[0].intermediate_size: 384, but the checkpoint 'saved' has 200"),
    ],
)  # fmt: skip
def test_another_size_beside_a_checkpoint_is_a_mistake(tmp_path: Path, axis: str, expected: str) -> None:
    save(tmp_path / "saved", **BERT)
    message = refused(write(tmp_path, FROM_CHECKPOINT.replace("{", f"{{{axis}, ")))
    assert message.startswith("sweep.yaml:" + expected.replace("4:4", "4"))
    assert message.count("\n") == 0


def test_the_files_of_a_sweep_that_is_a_link_lie_beside_what_it_leads_to(tmp_path: Path) -> None:
    """Where the ranks look for them: `Sweep.root` is handed to every trial."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    save(there / "saved", **BERT)
    save(here / "saved", **BERT | {"num_hidden_layers": 9})
    (here / "link.yaml").symlink_to(write(there, FROM_CHECKPOINT))
    sweep = load_sweep(here / "link.yaml")
    assert sweep.asked[0].configuration.num_layers == 3
    assert (sweep.root / "saved" / "config.json").samefile(there / "saved" / "config.json")


def test_a_sequence_has_no_more_tokens_than_the_checkpoint_has_positions(tmp_path: Path) -> None:
    save(tmp_path / "saved", **BERT)
    message = refused(write(tmp_path, FROM_CHECKPOINT.replace("32", "[64, 65]")))
    assert message == (
        "sweep.yaml:4 grids[0].sequence_length: 65 tokens, but the checkpoint 'saved' has 64 positions; at most 64"
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "t5"}, "'saved/config.json' is of model_type 't5'; one of bert, gpt2"),
        ({"model_type": ["bert"]}, "'saved/config.json' is of model_type ['bert']"),
        ({}, "'saved/config.json' is of model_type nothing"),
        (BERT | {"hidden_size": "96"}, "hidden_size is '96' in 'saved/config.json'; a whole number"),
        (BERT | {"num_hidden_layers": True}, "num_hidden_layers is True in 'saved/config.json'"),
        (BERT | {"vocab_size": 1e300}, "vocab_size is 1e+300 in"),
        (BERT | {"max_position_embeddings": None}, "max_position_embeddings is nothing in"),
        (BERT | {"num_attention_heads": 5}, "5 heads do not divide a hidden_size of 96"),
        (GPT2 | {"n_inner": 0}, "n_inner is 0 in 'saved/config.json'"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused_by_name(tmp_path: Path, config: dict[str, Any], expected: str) -> None:
    save(tmp_path / "saved", **config)
    message = refused(write(tmp_path, FROM_CHECKPOINT))
    assert message.startswith("sweep.yaml:4 grids[0]")
    assert expected in message


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (BERT | {"is_decoder": True}, "'saved': is_decoder is True; a model with is_decoder False"),
        (BERT | {"hidden_act": "relu"}, "'saved': hidden_act is 'relu'"),
        (BERT | {"tie_word_embeddings": False}, "'saved': tie_word_embeddings is False"),
        (GPT2 | {"add_cross_attention": True}, "'saved': add_cross_attention is True"),
        (GPT2 | {"scale_attn_weights": False}, "'saved': scale_attn_weights is False"),
    ],
)
def test_a_checkpoint_that_computes_what_is_not_counted_is_refused(
    tmp_path: Path, config: dict[str, Any], expected: str
) -> None:
    save(tmp_path / "saved", **config)
    assert f"sweep.yaml:4 grids[0].checkpoint: {expected}" in refused(write(tmp_path, FROM_CHECKPOINT))


def test_weights_that_may_not_be_read_are_told_with_the_sweeps_line(tmp_path: Path) -> None:
    (save(tmp_path / "saved", **BERT) / "adapter_config.json").write_text("{}")
    message = refused(write(tmp_path, FROM_CHECKPOINT))
    assert message.startswith("sweep.yaml:4 grids[0].checkpoint: 'saved': it has an adapter_config.json")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, FROM_CHECKPOINT)
    assert "sweep.yaml:4 grids[0].checkpoint: no such file 'saved'" in refused(path)
    folder = save(tmp_path / "saved", **BERT)
    (folder / "model.safetensors").unlink()
    assert "'saved': neither model.safetensors nor model.safetensors.index.json in it" in refused(path)
    for content in (b"{", b"[1]", b"[" * 100_000, b"\xff"):
        (folder / "config.json").write_bytes(content)
        assert "'saved/config.json' is" in refused(path)
    (folder / "config.json").unlink()
    assert "no such file" in refused(path)
    folder.rmdir()
    folder.write_text("")
    assert "'saved' is not a folder" in refused(path)


DATA = "data: {path: texts.csv, tokenizer: tokenizer}\n"


def test_texts_are_hashed_and_give_the_number_of_labels(tmp_path: Path) -> None:
    study_folder(tmp_path)
    rows = [("good film", "yes"), ("bad film", "no"), ("dull", "perhaps")]
    content = write_csv(tmp_path / "texts.csv", [("text", "label"), *rows]).read_bytes()
    asked = load_sweep(write(tmp_path, GRID, rest=DATA)).asked[0].configuration
    assert asked.num_labels == 3
    assert asked.data == TextData("texts.csv", "tokenizer", sha256=hashlib.sha256(content).hexdigest())
    before = asked.configuration_id
    write_csv(tmp_path / "texts.csv", [("text", "label"), *rows, ("very good", "yes")])
    assert load_sweep(write(tmp_path, GRID, rest=DATA)).asked[0].configuration.configuration_id != before


def test_texts_need_no_tokens_beyond_their_tokenizers(tmp_path: Path) -> None:
    """Markers that tell labels apart are what synthetic texts are made of: 9 labels would need 19 tokens."""
    study_folder(tmp_path)
    labels = [("good film", str(label)) for label in range(9)]
    write_csv(tmp_path / "texts.csv", [("text", "label"), *labels])
    grid = GRID.replace("vocab_size: 32", "vocab_size: 17")
    assert load_sweep(write(tmp_path, grid, rest=DATA)).asked[0].configuration.num_labels == 9
    assert "a vocabulary of 17 cannot tell 9 labels" in refused(write(tmp_path, grid.replace("{", "{num_labels: 9, ")))


@pytest.mark.parametrize(
    ("grid", "data", "expected"),
    [
        (GRID, DATA.replace("texts", "absent"), "sweep.yaml:5 data.path: no such file 'absent.csv'"),
        (GRID, DATA.replace(": texts.csv", ": tokenizer"), "data.path: 'tokenizer' is not a file"),
        (GRID, DATA.replace(": texts.csv", ": tokenizer/tokenizer.json"), "tokenizer/tokenizer.json: unknown ending"),
        (GRID, DATA.replace("}", ", text_column: review}"), "data.path: texts.csv:1: no column 'review'"),
        (GRID, DATA.replace("}", ", label_column: text}"), "data.path: texts.csv: text and label are both"),
        (GRID, DATA.replace("r: tokenizer", "r: nowhere"), "data.tokenizer: no such file 'nowhere'"),
        (GRID, DATA.replace("r: tokenizer", "r: texts.csv"), "data.tokenizer: texts.csv: is not a tokenizer"),
        (GRID.replace("{", "{num_labels: 3, "), DATA, "'texts.csv': 2 classes ('bad', 'good'), but num_labels"),
        (GRID.replace("size: 2", "size: [1, 25]"), DATA, "data.path: 'texts.csv': 24 rows, but a micro-batch"),
        (GRID.replace("{", "{strategy: ddp, gpu_count: 13, "), DATA, "24 rows, but a micro-batch of all ranks"),
        (GRID.replace("vocab_size: 32", "vocab_size: 9"), DATA, "data.tokenizer: 'tokenizer': has token ids up to 16"),
        (GRID.replace("length: 32", "length: 2"), DATA, "'tokenizer': adds 2 special tokens to each text"),
    ],
)  # fmt: skip
def test_texts_that_do_not_suit_the_sweep_are_told_with_both_places(
    tmp_path: Path, grid: str, data: str, expected: str
) -> None:
    study_folder(tmp_path)
    message = refused(write(tmp_path, grid, rest=data))
    assert expected in message
    assert message.startswith("sweep.yaml:5 data.")


def test_a_language_model_needs_no_labels_but_bert_a_mask(tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "tokenizer", mask=False)
    write_csv(tmp_path / "texts.csv", [("text",), ("good film",), ("bad film",)])
    model = GRID.replace("{", "{head: language_model, model_family: gpt2, ")
    assert load_sweep(write(tmp_path, model, rest=DATA)).asked[0].configuration.data
    assert "no column 'label'" in refused(write(tmp_path, model, GRID, rest=DATA))
    assert "data.tokenizer: 'tokenizer': has no token [MASK]" in refused(
        write(tmp_path, model.replace("gpt2", "bert"), rest=DATA)
    )


def test_a_text_of_one_token_is_told_before_anything_runs_where_the_next_token_is_guessed(tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "tokenizer", ends=False)
    write_csv(tmp_path / "texts.csv", [("text", "label"), ("good film", "1"), ("dull", "0")])
    model = GRID.replace("{", "{head: language_model, model_family: gpt2, ")
    message = refused(write(tmp_path, model, rest=DATA))
    assert "data.path: texts.csv:3: the text has 1 token, and 2 are the fewest to learn from; delete" in message
    assert load_sweep(write(tmp_path, GRID, rest=DATA)).asked, "a label needs no more"
    save_tokenizer(tmp_path / "marked")
    assert load_sweep(write(tmp_path, model, rest=DATA.replace("r: tokenizer", "r: marked"))).asked


# Where a path is in a sweep: what is written, what it is called in messages, and the file that it should lead to.
PATHS = {
    "metering.replay_path": "metering: {{meter: replay, replay_path: {path}}}\n",
    "data.path": "data: {{path: {path}, tokenizer: tokenizer}}\n",
    "data.tokenizer": "data: {{path: texts.csv, tokenizer: {path}}}\n",
    "defaults.checkpoint": "defaults: {{checkpoint: {path}}}\n",
}


@pytest.mark.parametrize("option", list(PATHS))
def test_no_path_of_a_sweep_leaves_its_folder(tmp_path: Path, option: str) -> None:
    outside = save(tmp_path / "outside", **BERT)
    study_folder(outside)
    root = tmp_path / "root"
    root.mkdir()
    study_folder(root)
    (root / "link").symlink_to(outside)
    (root / "inner").symlink_to(outside / "config.json")
    (root / "loop").symlink_to("loop")
    ways = ("../outside", "../outside/texts.csv", str(outside), "/etc/hostname", "/", "link", "link/texts.csv", "inner")
    for way in (*ways, "tokenizer/../../outside", "..", "../root/../outside"):
        path = write(root, GRID, rest=PATHS[option].format(path=way))
        assert f"{option}: {way!r} leaves the sweep's folder" in refused(path)
    for way in ("loop", "x" * 199, "/".join(["y" * 40] * 4)):
        message = refused(write(root, GRID, rest=PATHS[option].format(path=way)))
        assert f"{option}: " in message
        assert "no path" in message or "no such file" in message


@pytest.mark.parametrize("option", ["data.tokenizer", "defaults.checkpoint"])
def test_no_file_of_a_folder_that_is_named_lies_outside(tmp_path: Path, option: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    study_folder(root)
    save(root / "saved", **BERT)
    secret = tmp_path / "tokenizer.json"
    secret.write_text("{}")
    for folder in ("tokenizer", "saved"):
        (root / folder / "vocabulary.json").symlink_to(secret)
    folder = "tokenizer" if option == "data.tokenizer" else "saved"
    message = refused(write(root, GRID, rest=PATHS[option].format(path=folder)))
    assert f"{option}: " in message
    assert "leaves the sweep's folder" in message


def test_a_sweep_with_checkpoint_and_texts_is_read_without_torch(tmp_path: Path) -> None:
    study_folder(tmp_path)
    save(tmp_path / "saved", **BERT)
    path = write(tmp_path, FROM_CHECKPOINT, rest=DATA)
    script = (
        "import sys; from joulelaw.bench.spec.sweep_file import load_sweep; asked = load_sweep(sys.argv[1]).asked;"
        "print(len(asked), *sorted({'torch', 'ray', 'transformers'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script, path], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]
