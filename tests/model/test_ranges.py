"""What lies outside of a fit is named, axis by axis."""

from joulelaw.model.ranges import in_words, outside, ranges_of
from tests.model.synthetic import configurations


def test_a_row_outside_is_marked_with_its_axes_and_one_inside_with_nothing() -> None:
    fitted = configurations(devices=("Tesla T4",), most=24).assign(flop_per_micro_step=1e12)
    asked = fitted.iloc[:3].copy()
    asked["num_layers"] = asked["num_layers"].where([True, False, True], 48)
    asked["strategy"] = ["single", "zero2", "fsdp"]
    asked["gpu_model"] = ["Tesla T4", "Tesla T4", "NVIDIA L4"]
    found = outside(asked, ranges_of(fitted))
    assert in_words(found, asked.index).tolist() == ["", "strategy; num_layers 48 > 4", "gpu_model"]
    assert {axis: each.rows.tolist() for axis, each in found.items()} == {
        "gpu_model": [2],
        "strategy": [1],
        "num_layers": [1],
    }


def test_a_detail_that_is_not_said_is_the_usual_one_however_it_is_written() -> None:
    fitted = configurations(most=24).assign(flop_per_micro_step=1e12)
    asked = fitted.iloc[:4].assign(torch_compile=["false", None, 1.0, 0], attention=["sdpa", "eager", None, "sdpa"])
    found = outside(asked, ranges_of(fitted))
    assert {axis: each.rows.tolist() for axis, each in found.items()} == {"attention": [1], "torch_compile": [2]}
    assert outside(fitted, ranges_of(asked.assign(torch_compile=True)))["torch_compile"].rows.size == len(fitted)
