"""How a generator or probe gets the processor when its schedule says. Room: load_tests.

Called first thing by the processes that measure. What cannot be had is gone without: their own scheduling lag tells.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final

_PR_SET_TIMERSLACK: Final = 29
_NICENESS: Final = -15


def take(cpu: int = -1) -> int:
    """Stay on a core (-1: any), wake up to the nanosecond, and go first where we may; return the niceness.

    Where it is allowed (root), the least real-time priority: a planned send then waits for nobody's time slice. Else a
    niceness; Linux schedules by session first (autogroup), so that it counts only among the processes of one session:
    the session's own has to be set, too.
    """
    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # instead of 50 µs
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(_NICENESS))
    try:
        return os.nice(_NICENESS - os.nice(0))
    except PermissionError:
        return os.nice(0)
