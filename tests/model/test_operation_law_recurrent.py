"""The law operation on LSTM and GRU: their own operations, a call a time step, and coefficients apart from others'."""

import numpy as np
import pandas as pd
import pytest

from joulelaw import InputError
from joulelaw.model.efficiency_curves import Curve
from joulelaw.model.laws import fit_law
from joulelaw.model.operations import FLOP
from tests.model import test_operation_law as transformer
from tests.model.rows import CATALOGUE, CPU, ROW

PEAK = CPU.peak("fp32")
GATING, ELEMENTWISE = Curve(60, 70, 0.8), Curve(2, 9000, 0.9)
GATES = {"lstm": 4, "gru": 3}
STEPS = 20


def curve_of(operation: str) -> Curve:
    return GATING if operation.endswith("gating") else ELEMENTWISE


def timings(family: str) -> pd.DataFrame:
    flop = np.geomspace(1e2, 1e9, 20)
    parts = [
        pd.DataFrame({"operation": name, "flop": flop, "duration_s": curve_of(name).seconds(flop, PEAK)})
        for name in FLOP[family]
    ]
    return pd.concat(parts, ignore_index=True).assign(gpu_model=CPU.name, precision="fp32", model_family=family)


def trials(family: str) -> pd.DataFrame:
    """Joules are 3 plus 12 watts of each second of gating, of two layers whose first reads another width."""
    shapes = [
        {"hidden_size": h, "input_size": i, "sequence_length": s, "micro_batch_size": B}
        for h in (32, 64, 128)
        for i in (16, 64)
        for s in (8, 32)
        for B in (4, 16)
    ]
    alike = {"model_family": family, "num_heads": 1, "num_layers": 2, "micro_steps": STEPS, "boundary": "gpu"}
    table = pd.DataFrame([ROW | alike | shape for shape in shapes])
    h, i, s, B = (
        table[n].to_numpy(dtype=float) for n in ("hidden_size", "input_size", "sequence_length", "micro_batch_size")
    )
    calls = [2 * GATES[family] * B * i * h] + 3 * [2 * GATES[family] * B * h * h]  # two layers, two gatings each
    gating = 3 * STEPS * s * sum(GATING.seconds(flop, PEAK) for flop in calls)
    return table.assign(
        intermediate_size=GATES[family] * table["hidden_size"],
        trial_id=[f"{family}{k}" for k in range(len(table))],
        energy_j=3 + 12 * gating,
        duration_s=0.05 + 1.5 * gating,
    )


@pytest.mark.parametrize("family", ["lstm", "gru"])
def test_its_own_operations_explain_a_recurrent_network(family: str) -> None:
    law = fit_law("operation", trials(family), CATALOGUE, bootstrap=3, operations=timings(family))
    forecast = law.predict(trials(family))
    np.testing.assert_allclose(forecast["predicted_energy_j"], trials(family)["energy_j"], rtol=5e-3)
    np.testing.assert_allclose(forecast["predicted_duration_s"], trials(family)["duration_s"], rtol=5e-3)
    assert law.parameters[f"energy.operation[{family}.hidden_gating]"] == pytest.approx(12, rel=0.05)


def test_networks_have_coefficients_of_their_own() -> None:
    table = pd.concat([transformer.trials(), trials("lstm")], ignore_index=True)
    timed = pd.concat([transformer.timings(), timings("lstm")], ignore_index=True)
    both = fit_law("operation", table, CATALOGUE, bootstrap=5, operations=timed)
    alone = fit_law("operation", transformer.trials(), CATALOGUE, bootstrap=0, operations=transformer.timings())
    for name, value in alone.parameters.items():
        assert both.parameters[name] == pytest.approx(value, rel=1e-9)
    assert both.widths.half["model_family"]["energy"] == pytest.approx(np.log(2)), "no family says what another misses"


def test_a_network_that_was_not_fitted_is_refused() -> None:
    timed = pd.concat([transformer.timings(), timings("gru")], ignore_index=True)
    law = fit_law("operation", transformer.trials(), CATALOGUE, bootstrap=0, operations=timed)
    with pytest.raises(InputError, match="fitted on no gru"):
        law.predict(trials("gru"))
