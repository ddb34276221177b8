"""What waits: which devices it still needs, and what could not be placed any more."""

from dataclasses import replace

from joulelaw.bench.plan.plan import PlannedTrial
from joulelaw.bench.study.lineup import Lineup, waiting_trial
from joulelaw.cluster.scheduling.scheduler import Assignment
from tests.bench.factories import GPU_MODEL
from tests.bench.fake_fleet import planned


def over_nodes(count: int, node_count: int) -> PlannedTrial:
    one = planned(2)
    configuration = replace(one.spec.configuration, gpu_count=count, node_count=node_count)
    return replace(one, spec=replace(one.spec, configuration=configuration))


def test_the_fewest_devices_that_are_of_use_change_as_trials_get_their_rows() -> None:
    trials = [planned(1), over_nodes(8, 2), over_nodes(2, 1)]
    lineup = Lineup(trials)
    found = []
    for trial in trials:
        found.append(dict(lineup.smallest))
        lineup.settled(trial.trial_id)
    assert found == [{GPU_MODEL: 1}, {GPU_MODEL: 2}, {GPU_MODEL: 2}]
    assert lineup.smallest == {}


def test_what_all_devices_together_do_not_form_is_told_by_group() -> None:
    lineup = Lineup([planned(1), planned(2), over_nodes(4, 2)])
    assert lineup.stranded({GPU_MODEL: {"a": 2, "b": 2}}) == {}
    assert lineup.stranded({GPU_MODEL: {"a": 2, "b": 1}}) == {f"4 x {GPU_MODEL} on 2 nodes": 1}
    assert lineup.stranded({}) == {
        f"1 x {GPU_MODEL}": 1,
        f"2 x {GPU_MODEL}": 1,
        f"4 x {GPU_MODEL} on 2 nodes": 1,
    }


def test_the_single_device_of_a_case_goes_before_what_is_compared_with_it() -> None:
    lineup = Lineup([planned(2), planned(1)])
    lineup.see({GPU_MODEL: {"a": 2}})
    assert waiting_trial(planned(1)).baseline
    assert lineup.next() == Assignment(planned(1).trial_id, ("a",))


def test_a_trial_that_runs_once_more_may_ask_for_its_node() -> None:
    trial = planned(1)
    lineup = Lineup([trial])
    lineup.see({GPU_MODEL: {"a": 2}})
    assignment = lineup.next()
    assert assignment is not None
    lineup.start(assignment)
    assert len(lineup) == 0
    lineup.end(trial.trial_id)
    lineup.again(trial.trial_id, alone=True)
    assert len(lineup) == 1
    assert waiting_trial(trial, alone=True).alone_on_node
