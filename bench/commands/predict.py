"""predict: what runs will cost before they start. Neither torch nor Ray is imported."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joulelaw import InputError
from joulelaw.bench.commands import run_options as options
from joulelaw.bench.commands.run_options import flag, told_of_flags
from joulelaw.bench.console import ExitCode, last_line, say, to_people

if TYPE_CHECKING:
    import pandas as pd

    from joulelaw.model.costs import Prices
    from joulelaw.model.laws.base import FittedLaw

# Options that go with a table, too.
OF_TABLES = ("dataset_size", "epochs", "steps")


def predict(
    law: Annotated[str, typer.Argument(metavar="LAW", help="A law that `joulelaw fit` wrote, or `default`.")],
    runs: Annotated[
        Path | None,
        typer.Argument(metavar="TABLE", help="Runs to forecast: CSV or Parquet, by ending; else one, from options."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="CSV or Parquet, by ending; a TABLE needs one.")
    ] = None,
    model: options.Model = None,
    gpu_model: options.GpuModel = None,
    gpu_count: options.GpuCount = None,
    node_count: options.NodeCount = None,
    strategy: options.Strategy = None,
    tensor_parallel: options.TensorParallel = None,
    micro_batch_size: options.MicroBatchSize = None,
    sequence_length: options.SequenceLength = None,
    grad_accumulation: options.GradAccumulation = None,
    precision: options.Precision = None,
    head: options.Head = None,
    num_labels: options.NumLabels = None,
    dropout: options.Dropout = None,
    attention: options.Attention = None,
    activation_checkpointing: options.ActivationCheckpointing = None,
    torch_compile: options.TorchCompile = None,
    power_limit_w: options.PowerLimit = None,
    link_bytes_per_s: options.LinkSpeed = None,
    network_bytes_per_s: options.NetworkSpeed = None,
    dataset_size: options.DatasetSize = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    price_per_kwh: options.PricePerKwh = None,
    price_per_gpu_hour: options.PricePerGpuHour = None,
    currency: options.Currency = None,
    grid_intensity: options.GridIntensity = None,
    boundary: options.Boundary = None,
    devices: options.Devices = None,
) -> ExitCode:
    """Forecast runs, with intervals.

    Energy (gross), time, average power, and with prices cost and CO2e: of one run, from options, or of every row of a
    table, whose measured columns are ignored. Of the training steps alone, without evaluation or saving.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    asked = {name: given[name] for name in given if name not in ("law", "runs", "out", "boundary", "devices")}
    prices = _prices(asked)
    if runs is None:
        return _one(law, asked, prices, out, boundary, devices or [])
    _check_of_table(asked, out)
    assert out is not None
    return _table(law, runs, asked, prices, out, boundary, devices or [])


def _prices(asked: dict[str, Any]) -> "Prices | None":
    """The prices among the options, which are taken out of them; None where there is none."""
    from joulelaw.model.costs import Prices

    given = {field: asked.pop(name) for field, name in options.PRICES.items() if name in asked}
    with told_of_flags():
        prices = Prices(**given)
    if prices.currency and not prices.has_cost:
        remedy = "add --price-per-kwh or --price-per-gpu-hour"
        raise InputError("a currency without a price", where="--currency", remedy=remedy)
    return prices if given else None


def _one(
    law: str,
    asked: Mapping[str, Any],
    prices: "Prices | None",
    out: Path | None,
    boundary: str | None,
    devices: list[Path],
) -> ExitCode:
    """One run from options: a table for people, every figure for programs."""
    from joulelaw.bench.commands.law_files import check_writable_table, open_law, write_table
    from joulelaw.bench.forecast.forecast import forecast_run
    from joulelaw.bench.forecast.run import run_of
    from joulelaw.bench.forecast.told import as_json, shown

    if out is not None:
        check_writable_table(out)
    fitted = open_law(law, devices)
    run = run_of(asked, fitted.catalogue, flag)
    with told_of_flags():
        forecast = forecast_run(fitted, run, prices, boundary)
    if out is not None:
        write_table(forecast.table, out)
    to_people().print(shown(forecast))
    for warning in forecast.warnings:
        say(f"Warning: {warning}")
    last_line("predict", ExitCode.DONE, law=law, out=out, **as_json(forecast))
    return ExitCode.DONE


def _check_of_table(asked: Mapping[str, Any], out: Path | None) -> None:
    """That with a table only options are given that go with one."""
    for name in asked:
        if name not in OF_TABLES:
            remedy = f"leave it out: {'the table says it' if name != 'model' else 'the table has the shape'}"
            raise InputError("an option of one run, beside a TABLE of runs", where=flag(name), remedy=remedy)
    if out is None:
        raise InputError("missing", where="--out", remedy="name the CSV or Parquet file for the forecasts")


def _table(
    law: str,
    runs: Path,
    asked: Mapping[str, Any],
    prices: "Prices | None",
    out: Path,
    boundary: str | None,
    devices: list[Path],
) -> ExitCode:
    """Every row of a table, into another."""
    from joulelaw.bench.commands.law_files import check_writable_table, open_law, read_runs, told_of, write_table
    from joulelaw.bench.forecast.forecast import check_forecasts, chosen_boundary, level_of
    from joulelaw.bench.forecast.tables import with_shapes, with_usual
    from joulelaw.bench.forecast.told import shown_rows, table_warnings
    from joulelaw.bench.forecast.training import Training, with_micro_steps
    from joulelaw.model.costs import Prices

    check_writable_table(out)
    fitted = open_law(law, devices)
    table, usual = with_usual(read_runs(runs))
    if usual:
        say(f"{runs} has no column {', '.join(usual)}: 1 in every row")
    check_forecasts(fitted)
    with told_of_flags():
        training = Training(**asked) if asked else None
        chosen = chosen_boundary(fitted, boundary) if boundary else None
    with told_of(runs):
        table = with_shapes(table)
        if training is not None:
            table = with_micro_steps(table, training, fitted.catalogue)
        if chosen is not None:
            table = table.assign(boundary=chosen)
        if "micro_steps" not in table:
            remedy = "say --dataset-size (and --epochs) or --steps for all runs, or micro_steps in a column"
            raise InputError("how much is trained is not said", where="table", remedy=remedy)
        forecast = _named(fitted, table, prices or Prices())
    write_table(forecast, out)
    to_people().print(shown_rows(forecast, level_of(fitted)))
    outside = int((forecast["extrapolates"] != "").sum())
    if outside:
        say(f"{outside} of {len(forecast)} runs lie outside what the law was fitted on: see the column extrapolates")
    warnings, origin = table_warnings(forecast, fitted.provenance), fitted.provenance
    for warning in warnings:
        say(f"Warning: {warning}")
    last_line(
        "predict",
        ExitCode.DONE,
        law=law,
        out=out,
        rows=len(forecast),
        extrapolates=outside,
        boundaries=sorted(set(forecast["boundary"])),
        energy_is_estimated=origin.energy_is_estimated,
        meters=origin.meters,
        interval_level=level_of(fitted),
        warnings=warnings,
    )
    return ExitCode.DONE


def _named(fitted: "FittedLaw", table: "pd.DataFrame", prices: "Prices") -> "pd.DataFrame":
    """The table with the law's forecast; where it cannot be made, every row that is the reason is named."""
    from joulelaw.bench.forecast.forecast import with_costs
    from joulelaw.model.tables import check_configurations

    try:
        return with_costs(fitted, table, prices)
    except InputError:
        check_configurations(table, fitted.catalogue)  # slower, as it looks at every name in every row
        raise
