"""The report's colours, in light and in dark, and what figures and page share of style."""

from typing import Any

# role -> (light, dark); in the page each is a variable. Text keeps a contrast of at least 4.5 to the surface; points,
# lines and bars one of 3. Series, and parts, keep apart for the colour-blind, too: a search over hues, with vision
# simulated after Machado, Oliveira and Fernandes 2009, for the largest least distance in Oklab.
ROLES = {
    "surface": ("#fdfdfc", "#14181d"),
    "panel": ("#f4f5f4", "#1c2229"),
    "ink": ("#1b242e", "#e4e8ed"),
    "muted": ("#5a6673", "#9ba7b4"),
    "line": ("#c4cbd3", "#414c58"),
    "faint": ("#e7eaec", "#29313a"),
    "accent": ("#1f66c1", "#7ab2f7"),
    "warn": ("#9a5b00", "#e9b45c"),
    "series-0": ("#2c2894", "#8f97f0"),
    "series-1": ("#b33c0b", "#f9a64f"),
    "series-2": ("#26a081", "#9ff8a3"),
    "series-3": ("#a337d2", "#6a55ee"),
    "series-4": ("#ef52ca", "#bf2fa4"),
    "series-5": ("#ac870e", "#707716"),
    "series-6": ("#076f8d", "#02cfe1"),
    "series-7": ("#51362c", "#b4827d"),
    "part-arithmetic": ("#6775f2", "#6779f9"),
    "part-memory": ("#215b86", "#1d6d89"),
    "part-communication": ("#520474", "#dbb1fd"),
    "part-host": ("#f26744", "#bd510c"),
    "part-kernels": ("#765707", "#eba007"),
    "part-load": ("#0d351a", "#a1f5a6"),
    "part-idle": ("#8f9297", "#92979a"),
    "estimate": ("#75808c", "#87929e"),
}
LIGHT = {role: light for role, (light, _) in ROLES.items()}

# A strategy keeps its colour and mark in every report.
STRATEGIES = ("single", "fsdp", "zero2", "zero1", "zero3", "ddp", "tp", "fsdp_tp")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")

FIGURE_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "joulelaw",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "figure.facecolor": LIGHT["surface"],
    "savefig.facecolor": LIGHT["surface"],
    "axes.facecolor": "none",
    "axes.edgecolor": LIGHT["line"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["faint"],
    "grid.linewidth": 0.8,
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["line"],
    "ytick.color": LIGHT["line"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "legend.frameon": False,
    "legend.labelcolor": LIGHT["muted"],
    "legend.fontsize": 9.0,
}


def role_of(strategy: str) -> str:
    """The colour's role of a strategy; those that are not in the list share the last."""
    return f"series-{STRATEGIES.index(strategy) if strategy in STRATEGIES else len(STRATEGIES) - 1}"


def colour(strategy: str, *, estimated: bool = False) -> str:
    """A strategy's colour; grey where what is drawn is an estimate."""
    return LIGHT["estimate" if estimated else role_of(strategy)]


def mark(strategy: str) -> str:
    """A strategy's mark, so that colour is never the only difference."""
    return _MARKS[STRATEGIES.index(strategy) if strategy in STRATEGIES else len(STRATEGIES) - 1]


def in_order(strategies: "set[str]") -> list[str]:
    """Strategies in the order in which legends list them."""
    return sorted(
        strategies, key=lambda name: (STRATEGIES.index(name) if name in STRATEGIES else len(STRATEGIES), name)
    )


def part_shade(part: str, place: int, *, estimated: bool = False) -> tuple[str, float]:
    """Colour and opacity of a part of the seconds or joules: greys, from dark to light, where these are estimates."""
    return (LIGHT["estimate"], 1 - 0.12 * place) if estimated else (LIGHT[f"part-{part}"], 1.0)
