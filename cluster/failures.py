"""What can go wrong on the hardware: one exception class per failure, and the causes of failed attempts."""

from enum import StrEnum

from joulelaw import InputError


class Cause(StrEnum):
    """Why an attempt at a trial ended without a result, as TRIALS and EVENTS have it. docs/failures.md tells of each.

    >>> Cause("node_lost").value
    'node_lost'
    """

    RANK_CRASH = "rank_crash"  # a signal that was not ours, or an exit code other than 0
    RANK_ERROR = "rank_error"  # an exception in a rank
    OUT_OF_MEMORY = "out_of_memory"  # of the device, or of the host
    NAN_LOSS = "nan_loss"
    HANG = "hang"
    START_TIMEOUT = "start_timeout"
    TRIAL_TIMEOUT = "trial_timeout"
    NODE_LOST = "node_lost"
    NETWORK_CUT = "network_cut"  # a node that Ray's health checks do not reach any more
    SAMPLER_LOST = "sampler_lost"
    GPU_LOST = "gpu_lost"
    DRIVER_LOST = "driver_lost"  # found on resume: an attempt that began and never ended
    INTERRUPTED = "interrupted"  # by the user, or as the study's time was over


class ClusterError(Exception):
    """The hardware or what runs on it failed, through no fault of the user's input.

    >>> raise ClusterError("cannot reach the Ray cluster at 10.0.0.1:6379 within 30 s")
    """


class ForkServerError(ClusterError):
    """The server that rank processes are forked from did not start, or is not fit to fork.

    >>> raise ForkServerError("the fork server cannot import 'deepspeed': No module named 'deepspeed'")
    """


class GroupTimeoutError(ClusterError):
    """Ray did not grant a group in time, although the cluster has the devices.

    >>> raise GroupTimeoutError("2 x NVIDIA A100 not granted within 60 s; other Ray jobs hold the devices of node ab12")
    """


class NodeLostError(ClusterError):
    """A node, or the actor on it, is gone.

    >>> raise NodeLostError("reading the power of node ab12: ActorDiedError: the node was terminated")
    """


class RayLostError(ClusterError):
    """The local Ray of a study died, and with it all that ran on it.

    >>> raise RayLostError("the local Ray died: its raylet is gone; run the same command again to go on")
    """


class InfeasibleGroupError(InputError):
    """A group that this cluster can never form, told before anything waits for it.

    >>> raise InfeasibleGroupError("asked for 4 x NVIDIA A100, the cluster has 2", remedy="nearest: 2 x NVIDIA A100")
    """
