"""Where the seconds and joules go, by the law's terms: a bar a group of like trials."""

from joulelaw.bench.report.charts import Bars, Group
from joulelaw.bench.report.forecast_charts import of_meter
from joulelaw.bench.report.names import short_device
from joulelaw.bench.report.palette import in_order
from joulelaw.bench.report.study import Study
from joulelaw.model.laws.roofline_parts import MEANINGS, PARTS

_WORD = {"energy": "joules", "duration": "seconds"}


def where_it_goes(study: Study, target: str) -> Bars | None:
    """Mean shares of groups of one GPU model, strategy and size; None where the law has no such terms."""
    if target not in study.shares or not study.can_forecast(target):
        return None
    shares = study.shares[target].dropna()
    rows = study.trials.loc[shares.index]
    models = sorted(set(rows["gpu_model"]))
    groups = []
    for model in models:
        for strategy in in_order(set(rows["strategy"])):
            mine = rows[(rows["gpu_model"] == model) & (rows["strategy"] == strategy)]
            for count, part in mine.groupby("gpu_count"):
                mean = shares.loc[part.index].mean()
                label = f"{strategy} on {count}" + (f" × {short_device(model)}" if len(models) > 1 else "")
                groups.append(Group(label, model, strategy, len(part), tuple(map(float, mean))))
    open_parts = _open(study, target)
    doubt = f" Left open by the measurements, so mostly assumed: {', '.join(open_parts)}." if open_parts else ""
    word = _WORD[target]
    return Bars(
        name=f"parts-{target}",
        title=f"Where the {word} go",
        caption=f"Shares of the law's forecast, the mean over the trials of each bar; they add up exactly.{doubt}",
        alt=f"Shares of {', '.join(shares.columns)} in the {word} of {len(groups)} groups of trials",
        parts=tuple((part, MEANINGS[target][part]) for part in shares.columns),
        groups=tuple(groups),
        trials=tuple(
            (int(str(place)), tuple(map(float, row)))
            for place, row in zip(shares.index, shares.to_numpy(), strict=True)
        ),
        **of_meter(study, target),
    )


def _open(study: Study, target: str) -> list[str]:
    """The parts that no coefficient was identified for."""
    assert study.law is not None
    known = {each.name for each in study.law.coefficients if each.target == target and each.identified}
    told = {each.name for each in study.law.coefficients if each.target == target}
    parts = [(part, set(names) & told) for part, names in PARTS[target].items() if part in study.shares[target].columns]
    return [part for part, names in parts if names and not names & known]
