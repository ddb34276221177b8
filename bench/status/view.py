"""How a study stands, for people: the answers first, then what they rest on."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from joulelaw.bench.console import duration, number, table
from joulelaw.bench.status.status import Failure, StudyStatus

# Rows of a table that a person still reads; the last line of the output has them all.
MOST_ROWS = 20
_STYLES = {"running": "bold green", "complete": "bold green", "stopped": "bold yellow", "broken off": "bold red"}


def show(status: StudyStatus) -> RenderableType:
    """Everything: the headline, counts, joules, and tables of what runs, what failed, and the nodes."""
    parts: list[RenderableType] = [Text(headline(status), _STYLES[status.state]), *map(Text, _facts(status))]
    if status.failures:
        parts.append(_failures(status.failures))
    if status.running:
        parts.append(_running(status))
    if status.nodes:
        parts.append(_nodes(status))
    return Group(*parts)


def headline(status: StudyStatus) -> str:
    """Is it going well, and when is it over."""
    return f"{status.name}: {status.state}, {_well(status)}; {_when(status)}"


def line(status: StudyStatus) -> str:
    """All of it in one line, for an output that is no terminal."""
    counts = f"{status.ended}/{status.planned} ended, {len(status.running)} running, {status.waiting} waiting"
    return "  ".join([f"{status.now.astimezone():%H:%M:%S}", headline(status), counts, *_energy(status)])


def news(before: StudyStatus | None, now: StudyStatus) -> list[str]:
    """The lines that are worth printing since the last look."""
    if before is None:
        return [line(now)]
    known = {(each.trial_id, each.attempt) for each in before.failures}
    lines = [_failed(each) for each in now.failures if (each.trial_id, each.attempt) not in known]
    places = {each.node_id: each.lost for each in before.nodes}
    lines += [
        f"node {each.node_id[:6]} {f'lost: {each.lost}' if each.lost else 'joined'}"
        for each in now.nodes
        if places.get(each.node_id) != each.lost
    ]
    return [*lines, line(now)] if _gist(before) != _gist(now) or lines else []


def _gist(status: StudyStatus) -> object:
    return status.state, status.at_work, status.ended, dict(status.retried), [each.trial_id for each in status.running]


def _well(status: StudyStatus) -> str:
    troubles = []
    if failed := sum(status.failed.values()):
        troubles.append(f"{failed} FAILED")
    if status.invalid_trials:
        troubles.append(f"{status.invalid_trials} INVALID")
    done = f"{status.done} of {status.planned} trials done"
    return ", ".join([done, *troubles])


def _when(status: StudyStatus) -> str:
    if status.state == "complete":
        return f"over since {_clock(status.last_event)}" if status.last_event else "nothing is left to run"
    left = f"about {duration(status.left_s)}" if status.left_s is not None else ""
    if status.state == "running":
        if status.left_s is None or left == "":
            return "no forecast before the first trial has ended"
        return f"{left} left, over at about {_clock(status.now, status.left_s)}"
    rest = f"{left} of work is left" if left else "the rest is still to run"
    gone = "its driver went without a word" if status.state == "broken off" else "nobody is at work on it"
    return f"{gone}, {rest}: run the same command again to go on"


def _facts(status: StudyStatus) -> list[str]:
    facts = [
        f"trials    {status.done} done, {status.invalid_trials} invalid{_counts(status.invalid)}, "
        f"{sum(status.failed.values())} failed{_counts(status.failed)}, {len(status.running)} running, "
        f"{status.waiting} waiting"
    ]
    if status.retried:
        facts.append(f"retried   {sum(status.retried.values())} attempts{_counts(status.retried)}")
    facts += [f"energy    {text}" for text in _energy(status)]
    if status.readings:
        oldest = max(each.age_s for each in status.readings)
        facts.append(
            f"power     {number(status.power_w)} W now, of {len(status.readings)} metered domains that trials hold, "
            f"read at most {duration(oldest)} ago"
        )
    if status.at_work:
        began = f", begun {_clock(status.began)}" if status.began else ""
        facts.append(f"driver    {status.at_work} is at work{began}")
    elif status.last_event:
        facts.append(f"driver    none at work; last heard of {_clock(status.last_event)}")
    return facts


def _energy(status: StudyStatus) -> list[str]:
    return [
        f"{number(each.energy_j)} J {each.kind} by {each.meter}, in the windows of {each.trials} trials"
        for each in status.energy
    ]


def _counts(counts: Mapping[str, int]) -> str:
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items(), key=lambda item: -item[1]))
    return f" ({told})" if told else ""


def _failures(failures: Sequence[Failure]) -> Table:
    shown = table("Failed", ["trial", "configuration", "attempt", "cause", "what", "log"], ["attempt"])
    shown.columns[-1].no_wrap = True  # to be copied whole
    for each in failures[:MOST_ROWS]:
        shown.add_row(
            each.trial_id, each.label, str(each.attempt), each.cause, escape(each.failure), escape(each.log or "-")
        )
    return _with_rest(shown, len(failures))


def _failed(failure: Failure) -> str:
    log = f" ({failure.log})" if failure.log else ""
    return f"{failure.trial_id} FAILED, attempt {failure.attempt}: {failure.cause}: {failure.failure}{log}"


def _running(status: StudyStatus) -> Table:
    columns = ["trial", "configuration", "doing", "since", "of about", "node", "device", "W", "read"]
    shown = table("Running", columns, ["since", "of about", "W", "read"])
    for each in list(status.running)[:MOST_ROWS]:
        mine = [reading for reading in status.readings if reading.trial_id == each.trial_id]
        watts = [reading.power_w for reading in mine]
        shown.add_row(
            each.trial_id,
            each.label,
            each.phase,
            duration(each.elapsed_s),
            duration(each.expected_s),
            "\n".join(node[:6] for node in each.nodes),
            "\n".join(map(short, each.device_uuids)),
            "\n".join(number(watt) for watt in watts) or "-",
            f"{max(reading.age_s for reading in mine):.1f} s ago" if mine else "-",
        )
    return _with_rest(shown, len(status.running))


def _nodes(status: StudyStatus) -> Table:
    shown = table("Nodes", ["node", "devices", "joined", "lost"], ["devices"])
    for each in list(status.nodes)[-MOST_ROWS:]:
        lost = f"{_clock(each.left)} {each.lost}" if each.lost else ""
        shown.add_row(each.node_id[:6], str(each.devices), _clock(each.joined), escape(lost))
    return shown


def _with_rest(shown: Table, rows: int) -> Table:
    if rows > MOST_ROWS:
        shown.caption = f"and {rows - MOST_ROWS} more, in the last line of the output"
        shown.caption_justify = "left"
    return shown


def short(uuid: str) -> str:
    """A device's name, cut where it is still told from its neighbours."""
    return uuid[:12] if uuid.startswith("GPU-") else uuid


def _clock(time: datetime | None, later_s: float = 0.0) -> str:
    """The time of day here; with the date where that is not today's."""
    if time is None:
        return "-"
    local = datetime.fromtimestamp(time.timestamp() + later_s).astimezone()
    return f"{local:%H:%M:%S}" if local.date() == datetime.now().astimezone().date() else f"{local:%Y-%m-%d %H:%M}"
