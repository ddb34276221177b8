"""The law for readers: a symbol for each coefficient, and its formula with the fitted numbers put in."""

import math
from collections.abc import Mapping

from markupsafe import Markup, escape

from joulelaw.bench.report.names import short_device
from joulelaw.bench.report.quantity import number, quantity
from joulelaw.bench.report.study import Study

# Coefficient -> letter and index. Formulas in assets/law_*.html.j2 use these symbols, and tables name them.
SYMBOLS: Mapping[str, tuple[str, str]] = {
    "eta_flop": ("η", "flop"),
    "eta_flop_reduced": ("η", "reduced"),
    "fill_rows": ("n", "fill"),
    "eta_bandwidth": ("η", "memory"),
    "elementwise_passes": ("n", "passes"),
    "kernel_s": ("t", "kernel"),
    "micro_step_s": ("t", "micro-step"),
    "step_s": ("t", "step"),
    "step_launches": ("n", "launches"),
    "overlap": ("o", ""),
    "eta_link": ("η", "link"),
    "staging": ("n", "staging"),
    "collective_s": ("t", "collective"),
    "group_s": ("t", "group"),
    "input_token_s": ("t", "input"),
    "fsdp_layer_s": ("t", "fsdp"),
    "zero_layer_s": ("t", "zero"),
    "tensor_layer_s": ("t", "tensor"),
    "kappa_static": ("κ", "static"),
    "kappa_flop": ("κ", "flop"),
    "kappa_byte": ("κ", "byte"),
    "kappa_link": ("κ", "link"),
    "kappa_kernel_s": ("κ", "kernel"),
    "kappa_boost": ("κ", "boost"),
    "host_w": ("P", "host"),
    "intercept": ("b", "0"),
    "log_C": ("a", "C"),
    "log_M": ("a", "M"),
    "log_h": ("a", "h"),
}


def symbol(name: str) -> Markup:
    """MathML of a coefficient; of one without a letter its name. What stands in brackets is left to the name."""
    letter, index = SYMBOLS.get(name.partition("[")[0], ("", ""))
    if not letter:
        return Markup("<mtext>{}</mtext>").format(name)
    base = Markup("<mi>{}</mi>").format(letter)
    return Markup("<msub>{}<mtext>{}</mtext></msub>").format(base, index) if index else base


def cell(name: str) -> Markup:
    """A coefficient's name for a table, its symbol before it where it has one."""
    if name.partition("[")[0] not in SYMBOLS:
        return escape(name)
    return Markup("<math>{}</math> {}").format(symbol(name), name)


def with_numbers(study: Study, target: str) -> list[tuple[str, str]]:
    """The formula of a target with what was fitted put in: (of what, formula)."""
    if study.law is None:
        return []
    name = study.law.law.name
    if name == "roofline":
        return _joules(study) if target == "energy" else _seconds(study)
    return _sum(study, target)


def _joules(study: Study) -> list[tuple[str, str]]:
    """Of each device: joules of one device in one micro-step."""
    known, told = _known(study, "energy"), []
    for model in _devices(study):
        arithmetic = [(n, v) for n, v in known.items() if n.startswith(f"flop_j[{model}, ")]
        if f"static_w[{model}]" not in known or not arithmetic:
            continue
        flops = " or ".join(f"{quantity(v, 'J/FLOP')} ({n.rpartition(', ')[2][:-1]})" for n, v in arithmetic)
        terms = [f"{quantity(known[f'static_w[{model}]'], 'W')} · T", f"{flops} · W"]
        for key, unit, sign in (("byte_j", "J/B", "Q"), ("sent_byte_j", "J/B", "S"), ("kernel_j", "J", "K")):
            if f"{key}[{model}]" in known:
                terms.append(f"{quantity(known[f'{key}[{model}]'], unit)} · {sign}")
        ratio = known["kappa_boost"] / known["kappa_static"]
        dynamic, static = (known.get(f"{each}[{model}]", 1.0) for each in ("dynamic", "static"))
        boost_w = known[f"static_w[{model}]"] * ratio * dynamic / static
        terms.append(f"{quantity(boost_w, 'W')} · load¹·⁵ · T")
        hosts = [value for name, value in known.items() if name.startswith("host_w[")]
        terms += [f"{quantity(watts * known.get(f'host_power[{model}]', 1.0), 'W')} · T of the node" for watts in hosts]
        told.append((short_device(model), f"E = {' + '.join(terms)}"))
    return told


def _seconds(study: Study) -> list[tuple[str, str]]:
    """Of each device: the speeds that it reaches."""
    known, told = _known(study, "duration"), []
    for model in _devices(study):
        products = [(n, v) for n, v in known.items() if n.startswith(f"flop_per_s[{model}, ")]
        terms = [f"products {quantity(v, 'FLOP/s')} ({n.rpartition(', ')[2][:-1]})" for n, v in products]
        for key, words in (("bytes_per_s", "memory"), ("sent_bytes_per_s", "link")):
            value = known.get(f"{key}[{model}]", math.nan)
            if math.isfinite(value):
                terms.append(f"{words} {quantity(value, 'B/s')}")
        if terms:
            told.append((short_device(model), f"reaches {', '.join(terms)}"))
    return told


def _sum(study: Study, target: str) -> list[tuple[str, str]]:
    """Of laws that are one sum."""
    known = _known(study, target)
    logarithmic = any(name.startswith("log_") for name in known)
    left = f"log {target[0].upper()}" if logarithmic else target
    terms = []
    for name, value in known.items():
        if "[" not in name:
            terms.append(
                number(value)
                if name in ("intercept", "e0", "d0")
                else f"{number(value)} {name.replace('log_', 'log ')}"
            )
    texts = [f"{number(value)} for {name}" for name, value in known.items() if "[" in name]
    ends = f"; {', '.join(texts)}" if texts else ""
    return [("", f"{left} = {' + '.join(terms).replace('+ −', '− ')}{ends}")] if terms else []


def _known(study: Study, target: str) -> dict[str, float]:
    return {each.name: each.value for each in study.law.coefficients if each.target == target} if study.law else {}


def _devices(study: Study) -> list[str]:
    return [str(name) for name in study.law.provenance.ranges.get("gpu_model", [])] if study.law else []
