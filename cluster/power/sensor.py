"""What a meter's sensor of one domain is known to do: stated by its model, or seen when the meter was opened."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sensor:
    """How one metered domain comes by its numbers. Plain data; None and "" where nothing is known.

    The joules of a device carry one systematic offset, the same in every window, of at most `gain_bound`; it is never
    mixed with the random part of an uncertainty.
    """

    counter_tick_s: float | None = None  # seen: how often the counter moves on; 0 always; None no counter or not seen
    power_source: str = ""  # the call or field that gives power, by name
    power_update_s: float | None = None  # seen: how often the power reading changes
    power_averaged_s: float | None = None  # how long a power reading averages over, stated for the class
    sensor_class: str = ""  # a100, v100, turing, ampere, h100, ... by model name; "" unknown
    gain_bound: float | None = None  # relative systematic error stated for the class; None unknown, or no sensor
