"""Models by name or config.json: shapes as published and as Hugging Face has them; all else is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, GPT2Config

from joulelaw import InputError
from joulelaw.bench.forecast import hub, models
from joulelaw.bench.forecast.models import known_names, model_of, shape_of
from joulelaw.model.architecture import Shape, embedding_parameters, layer_parameters

# Of the bare model: https://huggingface.co, "safetensors parameters"; BERT's with its pooler.
PUBLISHED = {
    "bert-base-uncased": 109_482_240,
    "bert-large-uncased": 335_141_888,
    "google-bert/bert-base-cased": 108_310_272,
    "bert-large-cased": 333_579_264,
    "bert-base-multilingual-cased": 177_853_440,
    "bert-base-chinese": 102_267_648,
    "prajjwal1/bert-tiny": 4_385_920,
    "prajjwal1/bert-mini": 11_170_560,
    "prajjwal1/bert-small": 28_763_648,
    "prajjwal1/bert-medium": 41_373_184,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "openai-community/gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "distilgpt2": 81_912_576,
}


def refusal(model: str | Path) -> str:
    with pytest.raises(InputError) as refused:
        shape_of(str(model))
    assert refused.value.where == "model"
    return str(refused.value)


def bare_parameters(name: str) -> int:
    model = model_of(name)
    sizes: dict[str, Any] = {key: value for key, value in model.shape.items() if key != "model_family"}
    shape = Shape.of(model.model_family, **sizes, sequence_length=1, micro_batch_size=1)
    h = shape.hidden_size
    pooler = h**2 + h if model.model_family == "bert" else 0
    return int(shape.num_layers * layer_parameters(shape) + embedding_parameters(shape) + 2 * h + pooler)


def test_shipped_names_have_the_parameters_that_were_published() -> None:
    assert {name: bare_parameters(name) for name in PUBLISHED} == PUBLISHED
    told = {shape: bare_parameters(shape) for shape in known_names()}
    assert set(told.values()) == set(PUBLISHED.values())


def test_the_librarys_own_defaults_are_bert_base_and_gpt2(tmp_path: Path) -> None:
    for name, config in (("bert-base-uncased", BertConfig()), ("gpt2", GPT2Config())):
        config.save_pretrained(tmp_path)
        read = model_of(str(tmp_path))
        assert read.shape == shape_of(name)
        assert read.positions == model_of(name).positions == config.max_position_embeddings


def test_a_config_json_is_read_as_the_library_wrote_it(tmp_path: Path) -> None:
    bert = BertConfig(
        num_hidden_layers=3, hidden_size=96, num_attention_heads=6, intermediate_size=200, vocab_size=777,
        max_position_embeddings=128,
    )  # fmt: skip
    gpt2 = GPT2Config(n_layer=5, n_embd=64, n_head=4, vocab_size=999, n_positions=256)
    for config, expected in ((bert, ("bert", 3, 96, 6, 200, 777)), (gpt2, ("gpt2", 5, 64, 4, 256, 999))):
        path = tmp_path / f"{config.model_type}.json"
        config.to_json_file(path, use_diff=False)
        assert tuple(shape_of(str(path)).values()) == expected
        assert model_of(str(path)).positions == config.max_position_embeddings


def test_other_families_are_refused_by_their_name_without_asking_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "config_of", lambda name: pytest.fail(f"the hub was asked for {name}"))
    names = {
        "roberta-base": "roberta",
        "FacebookAI/xlm-roberta-large": "roberta",
        "distilbert-base-uncased": "distilbert",
        "google/flan-t5-xl": "t5",
        "meta-llama/Llama-3.1-8B": "llama",
        "Qwen/Qwen2.5-7B-Instruct": "qwen",
        "EleutherAI/gpt-neox-20b": "gpt-neox",
        "albert-base-v2": "albert",
        "microsoft/deberta-v3-base": "deberta",
    }
    for name, family in names.items():
        assert f"{name} is by its name a {family} model, which is not counted" in refusal(name)


def test_what_a_config_json_asks_for_beyond_what_is_counted_is_refused(tmp_path: Path) -> None:
    bert, gpt2 = BertConfig().to_dict(), GPT2Config().to_dict()
    wrong: dict[str, tuple[Any, str]] = {
        "another family": ({"model_type": "roberta"}, "a roberta model, which is not counted"),
        "no family": ({"hidden_size": 768}, "has no model_type"),
        "no object": ([1], "has no model_type"),
        "another activation": (bert | {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        "a decoder": (bert | {"is_decoder": True}, "is_decoder is True"),
        "other scores": (gpt2 | {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        "pruned heads": (bert | {"pruned_heads": {"0": [1]}}, "it has pruned_heads"),
        "quantized": (bert | {"quantization_config": {"bits": 4}}, "it has quantization_config"),
        "no layers": (bert | {"num_hidden_layers": 0}, "num_hidden_layers 0"),
        "no width": ({key: each for key, each in bert.items() if key != "hidden_size"}, "hidden_size None"),
        "a width in words": (gpt2 | {"n_embd": "768"}, "n_embd '768'"),
        "no positions": (gpt2 | {"n_positions": -1}, "n_positions -1"),
        "heads": (bert | {"num_attention_heads": 7}, "7 heads do not divide a width of 768"),
    }
    path = tmp_path / "config.json"
    for content, told in wrong.values():
        path.write_text(json.dumps(content))
        assert told in refusal(path)
    path.write_text("{")
    assert "is no JSON" in refusal(path)
    assert "no such file" in refusal(tmp_path / "absent" / "config.json")
    assert "no such file" in refusal("")


def test_a_name_that_is_not_shipped_is_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"lab/own-bert": BertConfig(num_hidden_layers=7).to_dict(), "lab/other": {"model_type": "mpnet"}}

    def config_of(name: str) -> Any:
        if name not in there:
            raise hub.HubError("the hub cannot be reached (ConnectError)")
        return there[name]

    monkeypatch.setattr(models, "config_of", config_of)
    assert shape_of("lab/own-bert")["num_layers"] == 7
    assert "lab/other is a mpnet model, which is not counted" in refusal("lab/other")
    told = refusal("bert-larg-uncased")
    assert "cannot be reached" in told
    assert "close ones are bert-large-uncased" in told


def test_an_unreachable_hub_is_one_message_and_a_cached_config_needs_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(hub.HubError):
        hub.config_of("lab/model")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(tmp_path / "config.json"))
    assert hub.config_of("lab/model") == {"model_type": "bert"}
