import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from solovox.catalogue import claims as module
from solovox.catalogue.claims import Claims
from solovox.catalogue.storage import Folder
from solovox.errors import SolovoxError


@pytest.fixture
def out(tmp_path) -> Folder:
    return Folder(str(tmp_path / "out"))


def test_one_holds_a_shard_until_it_is_given_back(out):
    claim = Claims(out).take(3)
    assert claim is not None
    assert Claims(out).take(3) is None
    assert Claims(out).take(4) is not None
    claim.save()
    assert Claims(out).take(3) is None
    claim.release()
    again = Claims(out).take(3)
    assert again is not None
    assert out.names("claims/00003") == [again.name]


@pytest.mark.parametrize("place", ["local", "memory"])
def test_of_many_at_once_one_gets_it(tmp_path, place):
    out = Folder(str(tmp_path) if place == "local" else f"memory://{tmp_path}")
    with ThreadPoolExecutor(16 if place == "local" else 1) as pool:  # memory has no threads
        for shard in range(10):
            taken = list(pool.map(lambda _, shard=shard: Claims(out).take(shard), range(16)))
            held = [claim for claim in taken if claim is not None]
            assert len(held) == 1
            held[0].save()


def take_and_die(out: Folder) -> None:
    """A process takes shard 0 with a song begun twice, leaves something unfinished, and dies."""
    code = (
        "import os, sys\nfrom solovox.catalogue.claims import Claims\n"
        "from solovox.catalogue.storage import Folder\n"
        "claim = Claims(Folder(sys.argv[1])).take(0)\n"
        "claim.tries['song'] = 2\nclaim.save()\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, out.url], check=True)


def test_the_shard_of_a_dead_process_is_taken_at_once_with_its_tries(out):
    take_and_die(out)
    assert list(out.scratch.parent.iterdir())
    claim = Claims(out).take(0)
    assert claim is not None
    assert claim.tries == {"song": 2}
    assert list(out.scratch.parent.iterdir()) == [out.scratch]


def test_on_another_host_it_is_taken_when_nothing_was_renewed_for_long(out, monkeypatch):
    take_and_die(out)
    name = out.names("claims/00000")[0]
    state = json.loads(out.read(name))
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def write(count):
        out.write(name, json.dumps({**state, "host": "elsewhere", "count": count}).encode())

    claims = Claims(out)
    write(1)
    assert claims.take(0) is None
    now[0] = module.LEASE - 1
    assert claims.take(0) is None
    assert not claims.alive
    write(2)
    assert claims.take(0) is None
    assert "elsewhere" in claims.alive[0]
    now[0] += module.LEASE - 1
    assert claims.take(0) is None
    now[0] += 2
    assert claims.take(0) is not None


def test_who_was_taken_for_dead_learns_it(out):
    claim = Claims(out).take(0)
    out.write("claims/00000/000001.json", b"{}")
    with pytest.raises(SolovoxError, match="taken over"):
        claim.save()


def test_a_number_that_is_another_process_now_is_not_the_holder(out):
    Claims(out).take(0)
    name = out.names("claims/00000")[0]
    state = {**json.loads(out.read(name)), "began": "1"}
    out.write(name, json.dumps(state).encode())
    assert Claims(out).take(0) is not None


def test_a_driver_with_the_number_of_a_dead_one_keeps_its_own_scratch(out):
    for shard in (0, 1):  # held when a container with a fixed name was killed
        Claims(out).take(shard)
        name = out.names(f"claims/{shard:05d}")[0]
        out.write(name, json.dumps({**json.loads(out.read(name)), "began": "1"}).encode())
    worker = Folder(out.url, f"{out.owner}.0")
    for folder in (out, worker):
        folder.scratch.mkdir(parents=True, exist_ok=True)
        (folder.scratch / "stem").touch()
    assert Claims(out).take(0) is not None
    assert Claims(out).take(1) is not None
    assert (out.scratch / "stem").exists()
    assert (worker.scratch / "stem").exists()


def test_a_claim_that_cannot_be_read_is_somebodys(out):
    out.write("claims/00000/000000.json", b"{")
    assert Claims(out).take(0) is None
