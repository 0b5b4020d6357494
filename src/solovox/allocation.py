"""Memory that stays with the process.

glibc gives a big block back to the system as soon as it is freed, and the next one is mapped anew,
page by page. A network asks for the same big blocks over and over. Told not to give them back,
glibc keeps them; the process then holds as much memory as it has needed at most. What that saves
depends on the machine: from nothing to a third of a training step (benchmarks/train_step.py).
"""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_NEVER = 2**31 - 1


def keep_memory() -> bool:
    """Make glibc keep freed memory for the rest of the process; False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl
        return False
    settings = ((_MMAP_THRESHOLD, _NEVER), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, 1 << 26))
    done = [bool(mallopt(name, value)) for name, value in settings]
    return all(done)
