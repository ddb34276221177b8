"""Shared coefficients and corrections as reported: interval, whether at a bound, and whether the rows identify them."""

from collections.abc import Sequence

import numpy as np

from joulelaw.model.fitting import Positive, priors
from joulelaw.model.identifiability import LEFT_OPEN
from joulelaw.model.laws.base import Coefficient, Parameters
from joulelaw.model.laws.roofline_anchor import Anchor
from joulelaw.model.laws.roofline_devices import interval_of
from joulelaw.model.laws.roofline_forms import Layout
from joulelaw.model.laws.roofline_terms import CORRECTIONS, UNMEASURED

# A coefficient that this share of the draws has at a bound is held by the bound, not by the rows.
STUCK = 0.05


def reported(layout: Layout, parameters: Parameters, draws: Sequence[Parameters]) -> tuple[Coefficient, ...]:
    """One each; identified where its interval is within a factor 2, bounds do not hold it, and the rows tell of it.

    The last: a narrow prior must not pass for a finding, so that the draws must vary less than it by as much as
    `identifiability.LEFT_OPEN` says.
    """
    _, spread = priors(layout.coefficients)
    assumed = np.diag(Anchor.of(layout).covariance(np.diag(spread**2)))
    return tuple(_reported(c, parameters, draws, v) for c, v in zip(layout.coefficients, assumed, strict=False))


def held_by_bounds(layout: Layout, draws: Sequence[Parameters]) -> set[str]:
    """Names of the coefficients that too many draws have at a bound."""
    return {f"{c.target}.{c.name}" for c in layout.coefficients if _stuck(c, draws)}


def _reported(c: Positive, parameters: Parameters, draws: Sequence[Parameters], assumed: float) -> Coefficient:
    name = f"{c.target}.{c.name}"
    drawn = [draw[name] for draw in draws]
    low, high, narrow = interval_of(parameters[name], drawn)
    told = narrow and bool(np.var(np.log(drawn)) <= LEFT_OPEN * assumed)
    identified = told and not _stuck(c, draws)
    at_bound = c.at_bound(_fitted(c, parameters))
    return Coefficient(c.target, c.name, parameters[name], low, high, c.unit, c.meaning, at_bound, identified)


def _stuck(c: Positive, draws: Sequence[Parameters]) -> bool:
    return bool(draws) and float(np.mean([c.at_bound(_fitted(c, draw)) for draw in draws])) >= STUCK


def _fitted(c: Positive, parameters: Parameters) -> float:
    """The value that bounds apply to: before the corrections were anchored (`roofline_anchor`)."""
    moving = [f"{c.target}.{each.name}[{UNMEASURED}]" for each in CORRECTIONS[c.target] if c.name in each.moves]
    return parameters[f"{c.target}.{c.name}"] * float(np.prod([parameters.get(name, 1.0) for name in moving]))
