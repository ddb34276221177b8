"""How long a study still takes: its forecasts, at the pace at which they came true so far."""

from collections.abc import Iterable

from joulelaw.bench.status.seen import Planned, Row, Seen, last_run, running_of, seconds_between, waiting_of

# As the study's loop takes a trial whose duration no law could tell.
_UNKNOWN_S = 1.0
# Events have milliseconds.
_SHORTEST_S = 1e-3


def time_left_s(seen: Seen) -> float | None:
    """Seconds until the last trial ends, if the study goes on as it does; None where nothing can tell yet.

    Device models do not compete for trials, so the slowest of them decides. Of each: the device-seconds of forecasts
    that are left, over those that came true per second of the last run; and never less than its longest trial needs.
    Before the first trial of a model has ended, its forecasts are taken at their word, for the devices that run now.
    """
    left = [_of_model(seen, model) for model in {planned.model for planned in seen.planned.values()}]
    known = [each for each in left if each is not None]
    return max(known, default=0.0) if len(known) == len(left) else None


def _of_model(seen: Seen, model: str) -> float | None:
    mine = {trial_id: planned for trial_id, planned in seen.planned.items() if planned.model == model}
    begun = running_of(seen)
    running = {trial_id: mine[trial_id] for trial_id in begun if trial_id in mine}
    waiting = [mine[trial_id] for trial_id in waiting_of(seen) if trial_id in mine]
    if not waiting and not running:
        return 0.0
    ratio = _ratio(mine, seen.rows.values())
    elapsed = {trial_id: seconds_between(begun[trial_id]["time"], seen.now) for trial_id in running}
    # In forecast seconds, of which one takes `ratio`.
    spent = {each: min(_expected_s(mine[each]), elapsed[each] / ratio) for each in running}
    rest = {trial_id: _expected_s(planned) - spent[trial_id] for trial_id, planned in running.items()}
    work = sum(_expected_s(planned) * planned.count for planned in waiting)
    work += sum(rest[trial_id] * planned.count for trial_id, planned in running.items())
    pace = _pace(seen, mine, sum(spent[trial_id] * planned.count for trial_id, planned in running.items()))
    if pace is None:
        devices = sum(planned.count for planned in running.values())
        if not devices:
            return None
        pace = devices / ratio
    return max(work / pace, ratio * max([*rest.values(), *map(_expected_s, waiting)]))


def _expected_s(planned: Planned) -> float:
    return planned.expected_s or _UNKNOWN_S


def _ratio(planned: dict[str, Planned], rows: Iterable[Row]) -> float:
    """How many times their forecast the trials took that are done; 1 before there are any."""
    done = [row for row in rows if row["status"] == "done" and row["trial_id"] in planned and row["trial_s"]]
    expected_s = sum(_expected_s(planned[row["trial_id"]]) for row in done)
    return sum(row["trial_s"] for row in done) / expected_s if expected_s else 1.0


def _pace(seen: Seen, planned: dict[str, Planned], under_way: float) -> float | None:
    """Forecast device-seconds that came true per second of the last run, from the first attempt on. None before one
    trial of it is done."""
    events = last_run(seen.events)
    begins = [event["time"] for event in events if event["kind"] == "attempt_began" and event["trial_id"] in planned]
    if not begins:
        return None
    ended = {event["trial_id"] for event in events if event["kind"] == "attempt_ended"}
    done = [planned[each] for each in ended & planned.keys() if seen.rows.get(each, {}).get("status") == "done"]
    if not done:
        return None
    until = seen.now if seen.at_work else events[-1]["time"]
    seconds = max(_SHORTEST_S, seconds_between(begins[0], until))
    return (sum(_expected_s(each) * each.count for each in done) + under_way) / seconds
