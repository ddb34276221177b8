"""How a node's actors stand among its other processes."""

import os
import subprocess
import sys

import pytest

TOLD = """
import os, sys, threading
from joulelaw.cluster.ranks.launcher import usual_priority
os.setpriority(os.PRIO_PROCESS, 0, 15)
usual_priority(ahead=int(sys.argv[1]))
thread = threading.Thread(target=lambda: print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
thread.start()
thread.join()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take niceness back")
@pytest.mark.parametrize("ahead", [0, 10])
def test_threads_stand_by_so_much_before_what_the_parent_does(ahead: int) -> None:
    done = subprocess.run([sys.executable, "-c", TOLD, str(ahead)], capture_output=True, text=True, check=True)
    assert int(done.stdout) == max(os.getpriority(os.PRIO_PROCESS, 0) - ahead, -20)
