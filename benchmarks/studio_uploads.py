"""Fifty uploads at once: is one lost, does memory grow, is the page still answered?

A studio in a process of its own gets 50 songs of 20 s (7 MB each) from 50 clients at the same time,
while another is already being separated, and one more client asks for the page and the list of
songs over and over. Printed are how long those answers took until all had arrived, the studio's
memory before and at most, and how many songs arrived, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import soundfile

RATE = 44_100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--songs", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("-j", "--threads", type=int, help="of the studio's worker")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), arguments.songs, arguments.seconds, arguments.threads)


def run(folder: Path, songs: int, seconds: float, threads: int | None) -> None:
    bodies = []
    for seed in range(songs):
        noise = np.random.default_rng(seed).standard_normal((round(seconds * RATE), 2)) * 0.1
        path = folder / "song.wav"
        soundfile.write(path, noise, RATE, subtype="FLOAT")
        bodies.append(path.read_bytes())
    program = "from solovox.cli import main; main()"
    words = ["studio", "--port", "0", "--work", str(folder / "work")]
    if threads:
        words += ["-j", str(threads)]
    began = time.perf_counter()
    studio = subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.PIPE, text=True
    )
    try:
        assert studio.stdout is not None
        port = int(studio.stdout.readline().rstrip("/\n").rsplit(":", 1)[1])
        ask(port, "GET", "/")
        start = time.perf_counter() - began

        # Warm: the model is loaded and one song is being separated, as for whoever uses it.
        ask(port, "POST", "/api/songs?name=first", bodies[0])
        while working(port) == "queued":
            time.sleep(0.1)
        before = memory(studio.pid)
        # In a process of its own: beside fifty senders in threads it would measure those.
        done = multiprocessing.Event()
        ours, theirs = multiprocessing.Pipe()
        watcher = multiprocessing.Process(target=watch, args=(port, studio.pid, done, theirs))
        watcher.start()
        ours.recv()  # it watches
        with ThreadPoolExecutor(songs) as pool:
            sent = time.perf_counter()
            states = list(pool.map(lambda k: upload(port, k, bodies[k]), range(songs)))
            took = time.perf_counter() - sent
        done.set()
        seen, most = ours.recv()
        watcher.join()
        listed = {song["id"] for song in json.loads(ask(port, "GET", "/api/songs"))}
        digests = {hashlib.sha256(body).hexdigest() for body in bodies}
        files = (folder / "work" / "songs").glob("*/upload")
        kept = {hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    finally:
        studio.terminate()
        studio.wait(30)
    answers = np.array(seen) * 1000
    whole = f"{len(digests & kept)} of {songs}"
    print(f"| {songs} uploads of {len(bodies[0]) / 1e6:.1f} MB at once | |")
    print("|---|---:|")
    print(f"| from the command to the first page, s | {start:.1f} |")
    print(f"| answered 201 and listed | {len(listed & {s['id'] for s in states})} of {songs} |")
    print(f"| on disk, byte for byte | {whole} |")
    print(f"| all uploads took, s | {took:.1f} |")
    print(f"| page and list answered meanwhile, times | {len(answers)} |")
    print(f"| median, ms | {np.median(answers):.0f} |")
    print(f"| 95 %, ms | {np.percentile(answers, 95):.0f} |")
    print(f"| longest, ms | {answers.max():.0f} |")
    print(f"| memory before, MB | {before:.0f} |")
    print(f"| memory at most, MB | {most:.0f} |")


def watch(port: int, process: int, done: Event, told: Connection) -> None:
    """Ask for page and list until `done`; tell how long each took, and the most memory seen."""
    seconds, most = [], 0.0
    told.send(None)
    while not done.wait(0.01):
        for path in ("/", "/api/songs"):
            began = time.perf_counter()
            ask(port, "GET", path)
            seconds.append(time.perf_counter() - began)
        most = max(most, memory(process))
    told.send((seconds, most))


def ask(port: int, method: str, path: str, body: bytes | None = None) -> bytes:
    for _ in range(200):  # until it listens
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
            connection.close()
            assert answer.status in (200, 201), (answer.status, text)
            return text
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise ConnectionRefusedError(port)


def upload(port: int, number: int, body: bytes) -> dict[str, str]:
    state: dict[str, str] = json.loads(
        ask(port, "POST", f"/api/songs?name=song-{number}.wav", body)
    )
    return state


def working(port: int) -> str:
    (song,) = json.loads(ask(port, "GET", "/api/songs"))
    status: str = song["takes"][0]["status"]
    return status if song["takes"][0]["progress"] > 0 or status == "done" else "queued"


def memory(process: int) -> float:
    """Resident memory in MB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(process)


if __name__ == "__main__":
    main()
