"""Names this node's kind of device to DeepSpeed. Its import is the effect: fork servers do it before DeepSpeed's.

It must be the node's own: a driver often runs where there is no GPU, on the head of a cluster say, and DeepSpeed would
then train on the processors of the nodes that have some.
"""

import os

from joulelaw.cluster.nodes.inventory import cuda_devices

os.environ.setdefault("DS_ACCELERATOR", "cuda" if cuda_devices() else "cpu")
