"""A trial as a user would write it, one `torchrun` each: BERT, AdamW, one strategy, timed steps. Knows no joulelaw.

OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 benchmarks/torchrun_trial.py --strategy fsdp --out steps.json
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from transformers import BertConfig, BertForSequenceClassification

TENSOR_PLAN = {
    "attention.self.query": ColwiseParallel(),
    "attention.self.key": ColwiseParallel(),
    "attention.self.value": ColwiseParallel(),
    "attention.output.dense": RowwiseParallel(),
    "intermediate.dense": ColwiseParallel(),
    "output.dense": RowwiseParallel(),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategy", choices=("single", "fsdp", "tp"), default="single")
    parser.add_argument("--num-layers", type=int, default=4)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--sequence-length", type=int, default=128)
    parser.add_argument("--micro-batch-size", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pin", action="store_true", help="each rank to the core of its number")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def build(args: argparse.Namespace) -> BertForSequenceClassification:
    config = BertConfig(
        num_hidden_layers=args.num_layers,
        hidden_size=args.hidden_size,
        num_attention_heads=args.hidden_size // 64,
        intermediate_size=4 * args.hidden_size,
        vocab_size=args.vocab_size,
        max_position_embeddings=max(512, args.sequence_length),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        problem_type="single_label_classification",
        attn_implementation="sdpa",
    )
    return BertForSequenceClassification(config).train()


def parallelize(model: BertForSequenceClassification, strategy: str, world: int) -> None:
    if strategy == "single":
        return
    mesh = init_device_mesh("cpu", (world,))
    for layer in model.bert.encoder.layer:
        if strategy == "fsdp":
            fully_shard(layer, mesh=mesh)
        else:
            parallelize_module(layer, mesh, TENSOR_PLAN)
    if strategy == "fsdp":
        fully_shard(model, mesh=mesh)


def optimizer_of(model: torch.nn.Module) -> torch.optim.Optimizer:
    """Fused AdamW takes either DTensors or plain ones in one group."""
    sharded = [parameter for parameter in model.parameters() if isinstance(parameter, DTensor)]
    whole = [parameter for parameter in model.parameters() if not isinstance(parameter, DTensor)]
    return torch.optim.AdamW([{"params": group} for group in (sharded, whole) if group], lr=1e-4, fused=True)


def main() -> None:
    args = arguments()
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if args.pin:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    if world > 1:
        dist.init_process_group("gloo")
    torch.manual_seed(args.seed)
    model = build(args)
    parallelize(model, args.strategy, world)
    optimizer = optimizer_of(model)
    torch.manual_seed(args.seed + (rank if args.strategy == "fsdp" else 0))  # tensor-parallel ranks share their data
    shape = (args.micro_batch_size, args.sequence_length)
    batches = [
        {"input_ids": torch.randint(1, args.vocab_size, shape), "labels": torch.randint(0, 2, shape[:1])}
        for _ in range(16)
    ]
    step_s = []
    for step in range(args.warmup + args.steps):
        if step == args.warmup and world > 1:
            dist.barrier()
        began = time.perf_counter()
        loss = model(**batches[step % len(batches)]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        step_s.append(time.perf_counter() - began)
    if rank == 0:
        args.out.write_text(json.dumps({"warmup_s": step_s[: args.warmup], "step_s": step_s[args.warmup :]}))
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
