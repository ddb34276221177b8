"""Anchored corrections: the same forecasts, and of the devices measured 1 in the geometric mean."""

import numpy as np

from joulelaw.model.fitting import priors
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws.base import Rows
from joulelaw.model.laws.roofline_anchor import Anchor
from joulelaw.model.laws.roofline_forms import duration_layout
from joulelaw.model.laws.roofline_terms import UNMEASURED
from joulelaw.model.tables import check_configurations
from tests.model.synthetic import DEVICES, configurations

CATALOGUE = Catalogue.load()
rng = np.random.default_rng(5)


def rows_of(*devices: str) -> Rows:
    table = configurations(devices).iloc[::7]
    return Rows.of(check_configurations(table.assign(boundary="gpu")), CATALOGUE)


def test_no_forecast_of_a_measured_device_changes_and_its_corrections_average_to_one() -> None:
    rows = rows_of(*DEVICES)
    layout = duration_layout(rows, DEVICES)
    expected, spread = priors(layout.coefficients)
    logs = expected + 0.5 * spread * rng.normal(size=len(spread))
    parameters = Anchor.of(layout).parameters(logs)
    with_others = duration_layout(rows, [*DEVICES, UNMEASURED])
    np.testing.assert_allclose(with_others.value(with_others.logs(parameters)), layout.value(logs), rtol=1e-12)
    for name in ("compute", "bandwidth", "link", "host"):
        product = np.prod([parameters[f"duration.{name}[{device}]"] for device in DEVICES])
        assert abs(product - 1) < 1e-12


def test_an_unmeasured_device_is_forecast_without_any_devices_correction() -> None:
    measured = rows_of(*DEVICES)
    layout = duration_layout(measured, DEVICES)
    expected, spread = priors(layout.coefficients)
    logs = expected + 0.5 * spread * rng.normal(size=len(spread))
    unseen = rows_of("Tesla V100-SXM2-16GB")
    plain = duration_layout(unseen, ())
    others = duration_layout(unseen, [UNMEASURED])
    forecast = others.value(others.logs(Anchor.of(layout).parameters(logs)))
    np.testing.assert_allclose(forecast, plain.value(logs[: layout.shared]), rtol=1e-12)


def test_the_doubt_about_an_unmeasured_device_is_its_own_and_that_of_the_mean() -> None:
    layout = duration_layout(rows_of(*DEVICES), DEVICES)
    anchor = Anchor.of(layout)
    _, spread = priors(layout.coefficients)
    variance = np.diag(anchor.covariance(np.diag(spread**2)))
    at = anchor.names.index(f"duration.host[{UNMEASURED}]")
    assert np.isclose(variance[at], np.log(2.0) ** 2 * (1 + 1 / 2))
