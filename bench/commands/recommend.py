"""recommend: the cheapest way to train a model, of many. Neither torch nor Ray is imported."""

from pathlib import Path
from typing import Annotated, Any

import typer

from joulelaw.bench.commands import run_options as options
from joulelaw.bench.console import ExitCode


def _option(name: str, metavar: str, told: str) -> Any:
    return typer.Option(name, metavar=metavar, help=told)


def recommend(
    law: Annotated[str, typer.Argument(metavar="LAW", help="A law that `joulelaw fit` wrote, or `default`.")],
    sequence_length: Annotated[int, _option("--sequence-length", "N", "Tokens of a sequence, padding included.")],
    model: Annotated[str | None, _option("--model", "LIST", "Hugging Face names or config.json, by comma.")] = None,
    parameters: Annotated[str | None, _option("--parameters", "A..B", "Shapes within, such as 50M..150M.")] = None,
    flop: Annotated[str | None, _option("--flop", "A..B", "Shapes whose whole training is within, in FLOPs.")] = None,
    family: Annotated[str | None, _option("--family", "LIST", "Of those shapes: bert, gpt2.")] = None,
    layers: Annotated[str | None, _option("--layers", "LIST", "Of those shapes, instead of the usual.")] = None,
    width: Annotated[str | None, _option("--width", "LIST", "Of those shapes, instead of the usual.")] = None,
    dataset_size: options.DatasetSize = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    global_batch: Annotated[
        int | None, _option("--global-batch", "N", "Sequences of an optimizer step, the same for all candidates.")
    ] = None,
    head: options.Head = None,
    num_labels: options.NumLabels = None,
    dropout: options.Dropout = None,
    attention: options.Attention = None,
    torch_compile: options.TorchCompile = None,
    power_limit_w: options.PowerLimit = None,
    link_bytes_per_s: options.LinkSpeed = None,
    network_bytes_per_s: options.NetworkSpeed = None,
    gpu_model: Annotated[str | None, _option("--gpu-model", "LIST", "Those of the law else.")] = None,
    gpu_count: Annotated[str | None, _option("--gpu-count", "LIST", "1,2,4,8 else.")] = None,
    node_count: Annotated[str | None, _option("--node-count", "LIST", "1 else.")] = None,
    strategy: Annotated[str | None, _option("--strategy", "LIST", "All that apply else.")] = None,
    tensor_parallel: Annotated[str | None, _option("--tensor-parallel", "LIST", "Degrees of fsdp_tp; 2 else.")] = None,
    micro_batch_size: Annotated[
        str | None, _option("--micro-batch-size", "LIST", "1 to 128 in powers of two else.")
    ] = None,
    grad_accumulation: Annotated[
        str | None, _option("--grad-accumulation", "LIST", "1,2,4,8 else, or what the global batch needs.")
    ] = None,
    precision: Annotated[str | None, _option("--precision", "LIST", "Those of the law else.")] = None,
    activation_checkpointing: Annotated[
        str | None, _option("--activation-checkpointing", "LIST", "no,yes else.")
    ] = None,
    candidates: Annotated[
        Path | None, _option("--candidates", "FILE", "YAML of such lists, or CSV or Parquet of candidates, instead.")
    ] = None,
    by: Annotated[str, _option("--by", "WHAT", "What is to be low: energy, time, cost or co2e.")] = "energy",
    deadline: Annotated[str | None, _option("--deadline", "TIME", "At most so long, such as 2h.")] = None,
    max_energy: Annotated[str | None, _option("--max-energy", "ENERGY", "At most so much, such as 5kWh.")] = None,
    max_cost: Annotated[float | None, _option("--max-cost", "MONEY", "At most so much, in the currency.")] = None,
    max_co2e: Annotated[str | None, _option("--max-co2e", "MASS", "At most so much, such as 2kg.")] = None,
    confidence: Annotated[
        float, _option("--confidence", "P", "Probability that each limit is kept with; 0.5: as forecast.")
    ] = 0.9,
    price_per_kwh: options.PricePerKwh = None,
    price_per_gpu_hour: Annotated[
        list[str] | None,
        _option("--price-per-gpu-hour", "[GPU=]PRICE", "Of one GPU; repeat it with the names of GPU models."),
    ] = None,
    currency: options.Currency = None,
    grid_intensity: options.GridIntensity = None,
    boundary: options.Boundary = None,
    inside: Annotated[bool, typer.Option("--inside", help="Leave out what lies outside the law's ranges.")] = False,
    devices: options.Devices = None,
    show: Annotated[int, _option("--show", "N", "How many of the best are told.")] = 5,
    out: Annotated[Path | None, _option("--out", "FILE", "All that fit, best first: CSV or Parquet.")] = None,
) -> ExitCode:
    """Choose the cheapest way to train a model.

    Of all candidates that fit in memory: the Pareto front of energy against time, and the lowest energy, time, cost or
    CO2e within limits, with intervals and how sure the order is. Candidates outside the law's ranges are marked and
    never preferred.
    """
    given = dict(locals())
    from joulelaw.bench.commands.law_files import check_writable_table, open_law, write_table
    from joulelaw.bench.forecast.forecast import check_forecasts, chosen_boundary
    from joulelaw.bench.recommend.fits import fitting
    from joulelaw.bench.recommend.ranking import recommended
    from joulelaw.bench.recommend.requests import asked_of, candidates_of, prices_of, workload_of
    from joulelaw.bench.recommend.told import tell

    if out is not None:
        check_writable_table(out)
    fitted = open_law(law, devices or [])
    check_forecasts(fitted)
    with options.told_of_flags():
        given["boundary"] = chosen_boundary(fitted, boundary)
    asked, workload = asked_of(given), workload_of(given)
    table = candidates_of(given, fitted, workload)
    fit = fitting(table, fitted.catalogue)
    found = recommended(fitted, fit, prices_of(given, fit.table["gpu_model"].unique()), asked)
    if out is not None:
        write_table(found.candidates, out)
    return tell(found, fitted, out)
