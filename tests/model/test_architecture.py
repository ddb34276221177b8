"""Parameters, FLOPs, stored activations and launches equal what Hugging Face models and torch count themselves."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from joulelaw import InputError
from joulelaw.model import kernels, memory
from joulelaw.model.architecture import Shape, parameters
from joulelaw.model.memory import Numerics
from joulelaw.model.work import flop_forward, flop_training
from tests.model.hugging_face import MODELS, SIZES, model_of, shape_of


def loss_of(model: torch.nn.Module, head: str, sizes: tuple[int, ...]) -> torch.Tensor:
    vocabulary, length, batch, labels = sizes[4:]
    tokens = torch.randint(1, vocabulary, (batch, length))
    targets = torch.randint(labels, (batch,)) if head == "classification" else tokens
    loss: torch.Tensor = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=targets).loss
    return loss


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("family", "head"), MODELS)
def test_parameters_equal_the_models_own(family: str, head: str, sizes: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model = model_of(family, head, sizes)
    assert parameters(shape_of(family, head, sizes)) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("layers", "width", "published"), [(12, 768, 109_482_240), (24, 1024, 335_141_888)])
def test_parameters_of_bert_base_and_large_are_the_published(layers: int, width: int, published: int) -> None:
    sizes = (layers, width, width // 64, 4 * width, 30522, 512, 1, 2)
    classifier = 2 * width + 2
    assert parameters(shape_of("bert", "classification", sizes)) - classifier == published


def test_positions_grow_with_long_sequences_only() -> None:
    short, long = (Shape.of("bert", **_any_sizes(), sequence_length=length) for length in (128, 600))
    assert parameters(long) - parameters(short) == (600 - 512) * 64
    assert parameters(Shape.of("bert", **_any_sizes(), sequence_length=128, positions=100)) < parameters(short)


def test_flops_follow_the_closed_form() -> None:
    """BERT-base at B = 32, s = 128, written out: L(8Bsh^2 + 4Bs^2h + 4Bshf) + 2Bh^2 + 2BhC."""
    L, h, f, B, s, C = 12, 768, 3072, 32, 128, 2
    sizes = (L, h, 12, f, 30522, s, B, C)
    body = L * (8 * B * s * h**2 + 4 * B * s**2 * h + 4 * B * s * h * f)
    assert flop_forward(shape_of("bert", "classification", sizes)) == body + 2 * B * h**2 + 2 * B * h * C


def test_columns_give_what_single_shapes_give() -> None:
    columns = Shape.of(
        "bert",
        **{name: np.array([2.0, 5.0]) * value for name, value in _any_sizes().items()},
        sequence_length=[16, 700],
    )
    for function in (parameters, flop_training):
        one_by_one = [
            function(Shape.of("bert", **{n: v * factor for n, v in _any_sizes().items()}, sequence_length=length))
            for factor, length in ((2, 16), (5, 700))
        ]
        assert function(columns).tolist() == one_by_one


@pytest.mark.parametrize(
    ("family", "head", "message"), [("t5", "classification", "family 't5'"), ("bert", "lm", "'lm'")]
)
def test_unknown_families_and_heads_raise(family: str, head: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        shape_of(family, head, SIZES[0])


def saved_bytes(model: torch.nn.Module, head: str, sizes: tuple[int, ...], autocast: bool) -> int:
    """Bytes of the storages that autograd saves in a forward pass, without parameters, their casts and buffers."""
    kept = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    matrices = {tuple(p.shape) for p in model.parameters()} | {tuple(p.shape)[::-1] for p in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tuple(tensor.shape) not in matrices or not autocast:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast),
    ):
        loss_of(model, head, sizes)
    return sum(tensor.untyped_storage().nbytes() for at, tensor in saved.items() if at not in kept)


@pytest.mark.parametrize(
    ("family", "attention", "autocast"),
    [
        ("bert", "sdpa", False),
        ("bert", "eager", False),
        ("bert", "sdpa", True),
        ("bert", "eager", True),
        ("gpt2", "sdpa", False),
        ("gpt2", "eager", False),
        ("gpt2", "sdpa", True),
        ("gpt2", "eager", True),
    ],
)
@pytest.mark.parametrize("head", ["classification", "language_model"])
def test_stored_activations_equal_what_autograd_saves(family: str, head: str, attention: str, autocast: bool) -> None:
    sizes = (4, 64, 4, 192, 301, 40, 3, 2)
    numerics = Numerics(
        element_bytes=np.array(2.0 if autocast else 4.0),
        autocast=np.array(autocast),
        fused_attention=np.array(attention == "sdpa"),
        dropout=np.array(False),
        on_cpu=np.array(True),
    )
    expected = saved_bytes(model_of(family, head, sizes, attention), head, sizes, autocast)
    predicted = memory.stored_activation_bytes(shape_of(family, head, sizes), numerics)
    assert predicted == pytest.approx(expected, rel=0.02)


def test_stored_activations_at_16_bits_are_korthikantis() -> None:
    """sBh (34 + 5as/h) a layer (2022, equation 1), less what lies outside the layers and norm statistics."""
    h, a, s, B = 1024, 16, 512, 4
    sizes = {"hidden_size": h, "num_heads": a, "intermediate_size": 4 * h, "vocab_size": 1, "micro_batch_size": B}
    numerics = Numerics(np.array(2.0), np.array(False), np.array(False), np.array(True))
    one, two = (
        memory.stored_activation_bytes(Shape.of("bert", num_layers=L, sequence_length=s, **sizes), numerics)
        for L in (1, 2)
    )
    assert two - one == pytest.approx(s * B * h * (34 + 5 * a * s / h), rel=1e-3)


class Operations(TorchDispatchMode):
    """Counts what is dispatched but views and allocations."""

    VIEWS = frozenset(
        [
            "view",
            "t",
            "transpose",
            "expand",
            "detach",
            "slice",
            "select",
            "unsqueeze",
            "permute",
            "_unsafe_view",
            "as_strided",
            "alias",
            "split",
            "empty_like",
            "lift_fresh",
            "empty",
        ]
    )

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += func.overloadpacket.__name__ not in self.VIEWS
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("attention", "autocast"), [("sdpa", False), ("eager", False), ("sdpa", True)])
def test_launches_of_a_step_are_the_operations_dispatched(
    family: str, attention: str, autocast: bool, checkpointing: bool
) -> None:
    sizes, micro_steps = (3, 32, 2, 64, 50, 16, 2, 2), 2
    model = model_of(family, "classification", sizes, attention)
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    with Operations() as operations:
        for _ in range(micro_steps):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                loss = loss_of(model, "classification", sizes)
            loss.backward()  # type: ignore[no-untyped-call]
    predicted = kernels.per_micro_step(
        shape_of(family, "classification", sizes),
        "single",
        autocast=np.array(autocast),
        fused_attention=np.array(attention == "sdpa"),
        checkpointing=np.array(checkpointing),
        grad_accumulation=np.array(float(micro_steps)),
        gpu_count=np.array(1.0),
    )
    made_here = 3  # tokens, their mask and the labels
    mask = 11 + 3 * checkpointing if (family, attention) == ("gpt2", "eager") else 0  # not counted: see kernels
    assert micro_steps * (predicted + mask + made_here) == operations.seen


def _any_sizes() -> dict[str, int]:
    return {
        "num_layers": 2,
        "hidden_size": 64,
        "num_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 100,
        "micro_batch_size": 3,
    }
