"""Builds Hugging Face's models: from a configuration with random weights, or from a checkpoint in a local folder.

A checkpoint is a folder as `save_pretrained` writes it. Only safetensors of that folder are read, never pickles, and
nothing is fetched. Its shape must be the configuration's; of its config.json the number of positions and the norms'
epsilon are taken over, and what would change the computation is refused. Weights that the head needs and the folder
lacks, such as a new classifier's, are drawn from the seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.utils import logging

from joulelaw import InputError
from joulelaw.bench.data.batches import PADDING
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.workloads import BlockSplit, TrainingModel
from joulelaw.bench.workloads.config_keys import ConfigKeys
from joulelaw.bench.workloads.weight_files import weight_files

# What `save_pretrained` writes; without this remedy a user would look for the library's own.
REMEDY = "a folder with config.json and model.safetensors, as save_pretrained writes them"


@dataclass(frozen=True)
class Family:
    """A model family of Hugging Face's library."""

    heads: Mapping[str, Any]
    """The library's class by the configuration's `head`."""
    config: type[PreTrainedConfig]
    keys: ConfigKeys
    dropouts: tuple[str, ...]
    """All settings of a dropout probability."""
    blocks: str
    pretrained: tuple[str, ...]
    """How the names of parameters begin that every checkpoint must have."""
    split: BlockSplit


def build_model(family: Family, configuration: Configuration, device: torch.device, root: Path) -> TrainingModel:
    """The model in training mode, fp32, on the device: of a checkpoint, or of the configuration's shape.

    Raises:
        InputError: a checkpoint that is missing, broken or of another shape.
    """
    model_class = family.heads[configuration.head]
    settings: dict[str, Any] = dict(family.keys.config(vars(configuration), configuration.sequence_length))
    if configuration.checkpoint:
        folder = root / configuration.checkpoint
        settings |= _saved_settings(family, folder, configuration)
        model = _load(model_class, _config(settings, family, configuration), folder, family.pretrained)
    else:
        model = model_class(_config(settings, family, configuration))
    if configuration.activation_checkpointing:
        _checkpoint_activations(model)
    model.to(device).train()
    blocks = tuple(model.get_submodule(family.blocks).children())
    return TrainingModel(module=model, blocks=blocks, split=family.split)


def _checkpoint_activations(model: Any) -> None:
    """By the library's name for it, or the one that it had in 5.17."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _config(settings: dict[str, Any], family: Family, configuration: Configuration) -> Any:
    """The library's configuration of this shape, with what a trial chooses."""
    config: Any = family.config.from_dict(settings)
    for name in family.dropouts:
        setattr(config, name, configuration.dropout)
    config.num_labels = configuration.num_labels
    config.problem_type = "single_label_classification"
    config.pad_token_id = PADDING
    config.use_cache = False
    config._attn_implementation = configuration.attention
    return config


def _saved_settings(family: Family, folder: Path, configuration: Configuration) -> dict[str, Any]:
    """What a checkpoint decides, once it has been found to be of the trial's shape and to compute what is counted."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}", where="checkpoint", remedy=REMEDY)
    try:
        values, _ = family.config.get_config_dict(folder, local_files_only=True)
        config: Any = family.config.from_dict(values)
    except Exception as error:  # whatever the library meets in a file that is not what it should be
        raise _broken(folder, error) from error
    kind = values.get("model_type")
    if kind is None:
        raise InputError(f"{folder} has no config.json with a model_type", where="checkpoint", remedy=REMEDY)
    if kind != family.config.model_type:
        remedy = f"a folder with a {family.config.model_type} model"
        raise InputError(f"{folder} holds a {kind} model", where="checkpoint", remedy=remedy)
    try:
        family.keys.check(values)
        weight_files(folder)
    except InputError as error:
        what = f"{folder} cannot be loaded: {error.what}"
        raise InputError(what, where="checkpoint", remedy=error.remedy) from None
    for axis, saved in family.keys.sizes(config.to_dict()).items():
        asked = getattr(configuration, axis)
        if saved != asked:
            what = f"the checkpoint {folder} has {saved}, the configuration {asked}"
            raise InputError(what, where=axis, remedy=f"{saved}, or another checkpoint")
    if config.max_position_embeddings < configuration.sequence_length:
        what = f"{configuration.sequence_length} tokens, and {folder} has {config.max_position_embeddings} positions"
        raise InputError(what, where="sequence_length", remedy=f"at most {config.max_position_embeddings}")
    return {key: getattr(config, key) for key in (family.keys.positions, family.keys.norm_epsilon)}


def _load(model_class: Any, config: Any, folder: Path, pretrained: tuple[str, ...]) -> Any:
    """The model with the folder's weights; those of a head of another size or kind are drawn anew."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, found = model_class.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=config._attn_implementation,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # as above
        raise _broken(folder, error) from error
    lacking = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
    lost = sorted(name for name in lacking if name.startswith(pretrained))
    if lost:
        raise InputError(f"{folder} lacks {len(lost)} of the model's weights, {lost[0]} first", where="checkpoint")
    return model


def _broken(folder: Path, error: Exception) -> InputError:
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    return InputError(f"{folder} cannot be loaded: {first_line}", where="checkpoint", remedy=REMEDY)
