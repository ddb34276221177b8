"""The operations of a Transformer's forward pass, each on the model's own modules and the tensors that they are given.

P2's four (ECAI 2025, DOI 10.3233/FAIA250900): `qkv_projections`, `attention_scores`, `attention_output` and
`final_projection`, with the FLOPs that the paper states, 6Bsh^2, 2Bs^2h, 2Bs^2h and 2Bsh^2. The others make the sum of
a micro-step whole. SDPA computes scores, softmax and output in one `fused_attention`: P2's are then timed all the
same, and the fused one takes their place in the sum.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from joulelaw.bench.data.batches import Batch
from joulelaw.bench.operations.timing import Operation
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.training.precision import autocast
from joulelaw.bench.workloads import TrainingModel
from joulelaw.model import architecture, work

Tensor = torch.Tensor


@dataclass(frozen=True)
class _Parts:
    """Where a family's modules are."""

    qkv: tuple[nn.Module, ...]
    final: nn.Module
    feed_forward: nn.Module
    norms: tuple[nn.Module, nn.Module]
    embeddings: Callable[[Tensor], Tensor]
    head: Callable[[Tensor, Batch], Tensor]
    """The loss, given the last layer's output."""
    is_causal: bool


def transformer_operations(
    training: TrainingModel, configuration: Configuration, batch: Batch, device: torch.device
) -> Iterator[Operation]:
    """One after the other, so that the tensors of one are gone when the next is made."""
    c, model = configuration, training.module
    parts = _PARTS[c.model_family](model, training.blocks[0])
    x, last = _layer_tensors(training, parts, batch, c, device)
    B, s, h, f, L = c.micro_batch_size, c.sequence_length, c.hidden_size, c.intermediate_size, c.num_layers
    tokens, everything = B * s, list(model.parameters())

    def qkv(x: Tensor) -> tuple[Tensor, ...]:
        return tuple(module(x) for module in parts.qkv)

    def norms(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return tuple(norm(functional.dropout(y, c.dropout) + x) for norm in parts.norms)

    yield Operation("qkv_projections", 6 * tokens * h**2, L, qkv, [x], _parameters(*parts.qkv))
    with torch.no_grad(), autocast(c.precision, device):
        q, k, v = (_heads(each, c.num_heads) for each in torch.cat(qkv(x), -1).chunk(3, -1))
        context = x.to(q.dtype)
        y = parts.final(context)
    yield from _attention(q, k, v, c, parts.is_causal)
    yield Operation("final_projection", 2 * tokens * h**2, L, parts.final, [context], _parameters(parts.final))
    feed_forward = parts.feed_forward
    yield Operation("feed_forward", 4 * tokens * h * f, L, feed_forward, [x], _parameters(feed_forward))
    yield Operation("norms", 2 * tokens * h, L, norms, [x, y], _parameters(*parts.norms))
    yield Operation("embeddings", tokens * h, 1, parts.embeddings, [batch["input_ids"]], everything)
    yield Operation("head", _head_flop(c), 1, lambda hidden: parts.head(hidden, batch), [last], everything)


def _attention(q: Tensor, k: Tensor, v: Tensor, c: Configuration, is_causal: bool) -> Iterator[Operation]:
    products = 2 * c.micro_batch_size * c.sequence_length**2 * c.hidden_size
    values, scale = c.micro_batch_size * c.num_heads * c.sequence_length**2, 1 / math.sqrt(q.shape[-1])
    fused, unfused = (0, c.num_layers) if c.attention == "eager" else (c.num_layers, 0)
    mask = torch.ones(q.shape[-2], q.shape[-2], device=q.device).tril().log()

    def softmax(scores: Tensor) -> Tensor:
        scaled = scores * scale + mask if is_causal else scores * scale
        return functional.dropout(functional.softmax(scaled, -1).to(q.dtype), c.dropout)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        found = functional.scaled_dot_product_attention(q, k, v, dropout_p=c.dropout, is_causal=is_causal)
        return found.transpose(1, 2).flatten(2)

    yield Operation("attention_scores", products, unfused, lambda q, k: q @ k.transpose(-1, -2), [q, k])
    scores = q @ k.transpose(-1, -2)
    yield Operation("attention_softmax", values, unfused, softmax, [scores])
    weights = torch.softmax(scores, -1)
    del scores
    yield Operation(
        "attention_output", products, unfused, lambda p, v: (p @ v).transpose(1, 2).flatten(2), [weights, v]
    )
    del weights
    yield Operation("fused_attention", 2 * products, fused, attend, [q, k, v])


def _layer_tensors(
    training: TrainingModel, parts: _Parts, batch: Batch, c: Configuration, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The input of the first layer's projections and the output of the last layer, as the model itself has them."""
    kept: list[Tensor] = []
    hooks = [
        parts.qkv[0].register_forward_pre_hook(lambda _, given: kept.append(given[0])),
        training.blocks[-1].register_forward_hook(lambda _, given, out: kept.append(out[0] if _is_tuple(out) else out)),
    ]
    with torch.no_grad(), autocast(c.precision, device):
        training.module(**batch)
    for hook in hooks:
        hook.remove()
    first, last = kept
    return first, last


def _is_tuple(out: object) -> bool:
    return isinstance(out, tuple)


def _head_flop(c: Configuration) -> float:
    """The forward pass of a model without layers: the head's products, or the values where it has none."""
    sizes = {name: getattr(c, name) for name in ("hidden_size", "num_heads", "intermediate_size", "vocab_size")}
    given = {"sequence_length": c.sequence_length, "micro_batch_size": c.micro_batch_size, "num_labels": c.num_labels}
    shape = architecture.Shape.of(c.model_family, head=c.head, num_layers=0, **sizes, **given)
    return float(work.flop_forward(shape))


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, s, h) -> (B, heads, s, h / heads), a view as the models make it."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def _parameters(*modules: nn.Module) -> list[Tensor]:
    return [parameter for module in modules for parameter in module.parameters()]


def _bert(model: Any, layer: Any) -> _Parts:
    def head(hidden: Tensor, batch: Batch) -> Tensor:
        if hasattr(model, "cls"):
            return functional.cross_entropy(model.cls(hidden).flatten(0, 1), batch["labels"].flatten())
        return functional.cross_entropy(model.classifier(model.dropout(model.bert.pooler(hidden))), batch["labels"])

    attention = layer.attention
    return _Parts(
        qkv=(attention.self.query, attention.self.key, attention.self.value),
        final=attention.output.dense,
        feed_forward=nn.Sequential(layer.intermediate, layer.output.dense),
        norms=(attention.output.LayerNorm, layer.output.LayerNorm),
        embeddings=model.bert.embeddings,
        head=head,
        is_causal=False,
    )


def _gpt2(model: Any, layer: Any) -> _Parts:
    body = model.transformer

    def embeddings(ids: Tensor) -> Tensor:
        embedded: Tensor = body.drop(body.wte(ids) + body.wpe(torch.arange(ids.shape[1], device=ids.device)))
        return embedded

    def head(hidden: Tensor, batch: Batch) -> Tensor:
        labels = batch["labels"]
        if hasattr(model, "lm_head"):
            logits = model.lm_head(body.ln_f(hidden)).float()
            return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return functional.cross_entropy(model.score(body.ln_f(hidden))[:, -1], labels)

    return _Parts(
        qkv=(layer.attn.c_attn,),
        final=layer.attn.c_proj,
        feed_forward=layer.mlp,
        norms=(layer.ln_1, layer.ln_2),
        embeddings=embeddings,
        head=head,
        is_causal=True,
    )


_PARTS = {"bert": _bert, "gpt2": _gpt2}
