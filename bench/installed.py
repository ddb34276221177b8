"""What this machine's Python lacks of what strategies need. Looked up without importing it."""

from importlib.util import find_spec

DEEPSPEED_STRATEGIES = ("zero1", "zero2", "zero3")


def missing_strategies() -> dict[str, str]:
    """The strategies that cannot run in this Python, and why."""
    if has("deepspeed"):
        return {}
    return dict.fromkeys(DEEPSPEED_STRATEGIES, "DeepSpeed is not installed")


def need(module: str) -> None:
    """Raises ModuleNotFoundError where a module could not be imported: in time, and not from a process of its own."""
    if not has(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def has(module: str) -> bool:
    """Whether a module could be imported."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # kept from being imported, in one way or another
        return False
