"""What becomes of a trial whose attempt failed. One pure rule, for the study's loop and for the simulator.

Out of memory and a loss that is no number are results: the configuration does so wherever it runs. An exception in a
rank, and a trial that takes longer than it may, would most likely come again at once: they are left to a later run,
after someone has looked. Everything else is the machine's doing, and worth another try, on other devices first.
"""

from typing import Literal

from joulelaw.cluster.failures import Cause

# Attempts at one trial in one run, unless a sweep says otherwise (limits.tries).
TRIES = 3
RESULTS = frozenset({Cause.OUT_OF_MEMORY, Cause.NAN_LOSS})
COMES_AGAIN = frozenset({Cause.RANK_ERROR, Cause.TRIAL_TIMEOUT})

NextStep = Literal["retry", "result", "failed"]


def next_step(cause: Cause, tries: int, limit: int = TRIES) -> NextStep:
    """What follows the end of an attempt: `tries` of at most `limit` were made in this run, that one among them.

    "result": the trial has failed for good, and no later run tries again; "failed": this run does not, a later one may.

    >>> next_step(Cause.NODE_LOST, 1), next_step(Cause.NODE_LOST, 3), next_step(Cause.OUT_OF_MEMORY, 1)
    ('retry', 'failed', 'result')
    """
    if cause in RESULTS:
        return "result"
    return "failed" if cause in COMES_AGAIN or tries >= limit else "retry"
