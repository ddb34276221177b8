"""NVIDIA's power sensors: what is stated of them by the card's name.

Averaging times are those of Yang, Adamek and Armour, "Part-time power measurements" (arXiv 2312.02741), who watched
more than 70 cards beside an inline meter; of a 1 s average NVML's own header says so.
"""

import re
from collections.abc import Mapping

# Relative error of a card's sensor, the same in all its readings. NVIDIA states +-5 %, and for Fermi and Kepler only
# (NVML's text on nvmlDeviceGetPowerUsage); the paper above found -8 % to +13 % between cards. The wider one is taken,
# as it was measured: the counter sums the same sensor. One bound for every class, none for cards of no known class.
GAIN_BOUND = 0.13
AVERAGE_S = 1.0  # NVML_FI_DEV_POWER_AVERAGE: "GPU power averaged over 1 sec interval"
# The first that is found in a card's name. GA100's other boards before the rest of Ampere.
CLASSES: Mapping[str, str] = {
    "a100": r"\bA(100X?|800|30X?)\b",
    "v100": r"\bG?V100|TITAN V\b",
    "h100": r"\bG?H(100|200|800|20)\b",
    "turing": r"RTX 20[5-9]0|GTX 16\d\d|Quadro RTX|TITAN RTX|\bT4\b",
    "ampere": r"RTX 30[5-9]0|RTX A\d|\bA(2|10|16|40)G?\b",
    "ada": r"RTX 40[5-9]0|Ada\b|\bL(4|20|40S?)\b",
    "blackwell": r"\bG?B[123]00\b|RTX 50[5-9]0|Blackwell",
}
AVERAGED_S: Mapping[str, float] = {"a100": 0.025, "v100": 0.010, "h100": 0.025, "turing": 0.100}
AVERAGED_BY_THE_OLDER_CALL = ("h100", "ampere", "ada", "blackwell")  # "Ampere (except GA100) or newer"


def sensor_class(name: str) -> str:
    """The class of sensor that cards of this name have; "" for one that nobody has told of.

    >>> sensor_class("NVIDIA A100-SXM4-40GB"), sensor_class("Tesla V100-SXM2-16GB"), sensor_class("NVIDIA H200")
    ('a100', 'v100', 'h100')
    >>> sensor_class("NVIDIA A10G"), sensor_class("NVIDIA GeForce RTX 2080 Ti"), sensor_class("Tesla K80")
    ('ampere', 'turing', '')
    """
    return next((known for known, pattern in CLASSES.items() if re.search(pattern, name)), "")


def averaged_s(power_source: str, of_class: str) -> float | None:
    """Over how long this call or field averages on a card of this class; None where nobody has told."""
    if power_source == "NVML_FI_DEV_POWER_AVERAGE":
        return AVERAGE_S
    if power_source == "nvmlDeviceGetPowerUsage" and of_class in AVERAGED_BY_THE_OLDER_CALL:
        return AVERAGE_S
    return AVERAGED_S.get(of_class) if power_source else None
