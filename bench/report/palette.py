"""The report's colours, in light and in dark, and what figures and page share of style."""

from typing import Any

# role -> (light, dark). Figures are drawn in light; in the page each colour becomes the variable of its role, so every
# light colour here is used for one role only. Text and marks keep a contrast of at least 4.5 and 3 to the surface.
ROLES = {
    "surface": ("#fdfdfc", "#14181d"),
    "panel": ("#f4f5f4", "#1c2229"),
    "ink": ("#1b242e", "#e4e8ed"),
    "muted": ("#5a6673", "#9ba7b4"),
    "line": ("#c4cbd3", "#414c58"),
    "faint": ("#e7eaec", "#29313a"),
    "accent": ("#1f66c1", "#7ab2f7"),
    "warn": ("#9a5b00", "#e9b45c"),
    "series-0": ("#2466c2", "#6aa9f5"),
    "series-1": ("#c8541c", "#f0905c"),
    "series-2": ("#128272", "#4cc4b0"),
    "series-3": ("#7a55c4", "#b296f0"),
    "series-4": ("#b23a74", "#ee86b4"),
    "series-5": ("#8a6d0c", "#d8b94c"),
    "series-6": ("#4f7f22", "#98c766"),
    "series-7": ("#58677a", "#a3b2c4"),
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
