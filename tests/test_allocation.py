"""Memory that stays: blocks that are freed and wanted again cost no page faults."""

import subprocess
import sys

import pytest

from solovox.allocation import keep_memory

COUNT = """
import ctypes, resource, sys
from solovox.allocation import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
def use():
    block = libc.malloc(ctypes.c_size_t(64 << 20))
    ctypes.memset(block, 1, 64 << 20)
    libc.free(ctypes.c_void_p(block))
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    command = [sys.executable, "-c", COUNT, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def has_glibc() -> bool:
    import platform

    return platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not has_glibc(), reason="this system has no glibc")
def test_freed_memory_is_kept() -> None:
    assert faults("keep") < 100 < 10_000 < faults("leave")


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_memory()
