"""A whole listening test in a real browser: sound, keys, reloads, a lost connection, a phone.

Needs Playwright and a Chromium, as `browsing` has them.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from browsing import SLOW, picture, until

from solovox.evaluation.listening.analysis import analyse, analysis_report, plot
from solovox.evaluation.listening.server import ListeningServer
from solovox.evaluation.listening.study import ANCHOR, REFERENCE, make_study

from .conftest import RATE, write_song

pytestmark = pytest.mark.filterwarnings("default")  # what a browser leaves behind is not ours


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListeningServer]:
    root = tmp_path_factory.mktemp("listening")
    for seed, song in enumerate(("Aria", "Blues")):
        write_song(root / "data" / song, seed, seconds=3.0)
        audio, _ = soundfile.read(root / "data" / song / "vocals.wav", dtype="float32")
        noise = np.random.default_rng(seed).standard_normal(audio.shape)
        for system, gain in (("good", 0.002), ("poor", 0.05)):
            path = root / "separated" / system / song / "vocals.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, audio + gain * noise, RATE, subtype="FLOAT")
    folders = {name: root / "separated" / name for name in ("good", "poor")}
    make_study(folders, root / "data", root / "study", seconds=2.0, title="Voices")
    with ListeningServer(root / "study", port=0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def listener_file(page: Any, server: ListeningServer) -> Path:
    return server.result(page.evaluate("listening.study.listener"))


def rated(file: Path, value: int) -> set[str]:
    """Which versions the server knows to have been given this rating."""
    pages = json.loads(file.read_text("utf-8"))["pages"].values()
    return {token for page in pages for token, there in page["ratings"].items() if there == value}


def full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something outside the page is true."""
    end = time.monotonic() + SLOW / 1000
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def rate(page: Any, names: dict[str, str], ratings: dict[str, int]) -> None:
    """Hear and rate every version of the page that is shown, by keyboard alone."""
    tokens = page.evaluate("listening.study.pages[listening.said.current].stimuli")
    for key, token in enumerate(tokens, 1):
        page.keyboard.press(str(key))
        until(page, "t => listening.player.playing && listening.player.current === t", token)
        value = ratings[names[token]]
        page.keyboard.press("End" if value > 50 else "Home")
        step = "ArrowLeft" if value > 50 else "ArrowRight"
        for _ in range(100 - value if value > 50 else value):
            page.keyboard.press(step)


def drag(page: Any, version: int, values: Iterable[int], then: str = "") -> None:
    """Move a slider, faster than the page sends what is said; `then` is done at once after it."""
    page.evaluate(
        "([n, values, then]) => { const e = document.querySelectorAll('#stimuli input')[n - 1];"
        "for (const v of values) { e.value = v; e.dispatchEvent(new Event('input')); }"
        "if (then) location.assign(then); }",
        [version, list(values), then],
    )


def test_a_whole_session(server: ListeningServer, browser: Any) -> None:
    names = {t: name for p in server.study.pages for t, name in p.stimuli.items()}
    ratings = {REFERENCE: 100, "good": 92, "poor": 10, ANCHOR: 3}
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 900, "height": 700})
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.wait_for_selector("#begin:visible", timeout=SLOW)
    assert page.title() == "Voices"
    picture(page, "listening-intro")
    page.click("#begin")
    page.wait_for_selector("#page:visible", timeout=SLOW)
    assert page.is_disabled("#next")
    assert page.inner_text("#why") == "4 still to be heard."

    # Sound is really made, and another version goes on where the first one was.
    page.keyboard.press("r")
    until(page, "() => listening.player.level() > 0.01")
    started = page.evaluate("listening.player.started")
    page.keyboard.press("1")
    first = page.evaluate("listening.study.pages[0].stimuli[0]")
    until(page, "t => listening.player.voices.get(t)?.gain.gain.value > 0.99", first)
    gains = page.evaluate("[...listening.player.voices.values()].map(v => v.gain.gain.value)")
    assert len(gains) == 5
    assert sum(gains) == pytest.approx(1.0, abs=0.02)
    assert page.evaluate("listening.player.started") == started
    until(page, "() => listening.player.level() > 0.01")
    until(page, "() => listening.player.context.currentTime - listening.player.started > 2.2")
    assert page.evaluate("listening.player.level()") > 0.01  # the loop has gone round

    rate(page, names, ratings | {REFERENCE: 99})
    assert "give 100" in page.inner_text("#why")
    assert page.is_disabled("#next")
    rate(page, names, ratings)
    assert page.inner_text("#why") == ""
    picture(page, "listening-ratings")
    page.keyboard.down(" ")
    page.keyboard.down(" ")  # held down, it acts once
    until(page, "() => !listening.player.playing")
    page.keyboard.up(" ")
    # Firefox would click a button that has the focus, unless it is told not to.
    told = "new KeyboardEvent('keyup', { key: ' ', bubbles: true, cancelable: true })"
    assert not page.evaluate(f"document.getElementById('reference').dispatchEvent({told})")
    assert not page.evaluate("listening.player.playing")
    until(page, "() => listening.player.level() < 0.001")
    page.wait_for_selector("#saved:text-is('Saved')", timeout=SLOW)

    # A page that is left at once sends what it has not sent yet.
    file = listener_file(page, server)
    drag(page, 1, [51], then="about:blank")
    page.wait_for_url("about:blank", timeout=SLOW)
    eventually(lambda: first in rated(file, 51))
    page.goto(server.url)
    page.wait_for_selector("#begin:visible", timeout=SLOW)
    page.click("#begin")
    page.wait_for_selector("#page:visible", timeout=SLOW)
    # What could not be sent is kept for the next page. (The page itself is cut off: one that closes
    # is let out of `set_offline` before its timers have run.)
    page.evaluate(
        "() => { globalThis.fetch = () => Promise.reject(); navigator.sendBeacon = () => false; }"
    )
    drag(page, 1, [ratings[names[first]]])
    page.close()
    assert first in rated(file, 51)
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.wait_for_selector("#begin:visible", timeout=SLOW)
    assert first in rated(file, ratings[names[first]])
    page.click("#begin")
    page.wait_for_selector("#page:visible", timeout=SLOW)
    shown = page.evaluate("[...document.querySelectorAll('#stimuli output')].map(o => o.value)")
    tokens = page.evaluate("listening.study.pages[0].stimuli")
    assert shown == [str(ratings[names[token]]) for token in tokens]
    assert page.is_enabled("#next")

    # Without a connection the test goes on; what is said is sent when it is back.
    context.set_offline(True)
    page.click("#next")
    page.wait_for_selector("text=Song 2 of 2", timeout=SLOW)
    rate(page, names, ratings)
    page.wait_for_selector("text=No connection", timeout=SLOW)
    picture(page, "listening-offline")
    assert (
        sum(
            p["done"] for p in json.loads(listener_file(page, server).read_text())["pages"].values()
        )
        < 2
    )
    context.set_offline(False)
    page.wait_for_selector("#saved:text-is('Saved')", timeout=SLOW)
    page.keyboard.press("Enter")
    page.wait_for_selector("#end:visible", timeout=SLOW)
    page.select_option("#headphones", "headphones")
    page.fill("#comment", "R was hard to find")
    picture(page, "listening-end")
    context.set_offline(True)
    page.click("#finish")
    page.wait_for_selector("#thanks:visible", timeout=SLOW)
    assert page.inner_text("#thanks") == "Thank you! Not sent yet: leave this page open."
    page.wait_for_selector("text=No connection", timeout=SLOW)
    assert "Not sent yet" in page.inner_text("#thanks")
    context.set_offline(False)
    page.wait_for_selector("text=you can close this page", timeout=SLOW)
    page.wait_for_selector("#saved:text-is('Saved')", timeout=SLOW)

    said = json.loads(listener_file(page, server).read_text("utf-8"))
    assert said["finished"]
    assert said["answers"] == {"headphones": "headphones", "comment": "R was hard to find"}
    assert all(p["done"] and p["seconds"] > 0 for p in said["pages"].values())
    found = analyse(server.folder)
    assert {c.name: c.mean.value for c in found.conditions} == ratings
    assert "1 listener, 2 songs" in analysis_report(found)
    if folder := os.environ.get("SOLOVOX_SCREENSHOTS"):
        plot(found, Path(folder) / "listening-analysis.png")
        (Path(folder) / "listening-analysis.md").write_text(analysis_report(found), "utf-8")
    assert not errors
    context.close()


def test_a_phone(server: ListeningServer, browser: Any) -> None:
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, device_scale_factor=2, is_mobile=True,
        has_touch=True, color_scheme="dark",
    )  # fmt: skip
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector("#begin:visible", timeout=SLOW)
    page.tap("#begin")
    page.wait_for_selector("#page:visible", timeout=SLOW)
    page.tap("#reference")
    until(page, "() => listening.player.level() > 0.01")
    page.tap("#stimuli li:nth-child(2) button")
    token = page.evaluate("listening.study.pages[0].stimuli[1]")
    until(page, "t => listening.player.current === t", token)
    page.tap("#stimuli li:nth-child(2) input")
    until(page, "t => t in listening.said.pages[listening.study.pages[0].page].ratings", token)
    # Nothing is wider than the screen, and what is tapped is large enough for a finger.
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    sizes = page.evaluate(
        "[...document.querySelectorAll('#page button, #stimuli input')]"
        ".map(e => e.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 34
    picture(page, "listening-phone")
    # Two browsers are two listeners.
    assert re.fullmatch("[0-9a-f]{16}", page.evaluate("listening.study.listener"))
    assert len(list((server.folder / "results").glob("*.json"))) >= 1
    context.close()


def test_the_repeated_part_can_be_set(server: ListeningServer, browser: Any) -> None:
    page = browser.new_page()
    page.goto(f"{server.url}?new")
    page.wait_for_selector("#begin:visible", timeout=SLOW)
    page.click("#begin")
    page.wait_for_selector("#page:visible", timeout=SLOW)
    page.keyboard.press("r")
    until(page, "() => listening.player.level() > 0.01")
    for name, value in (("from", 0.5), ("to", 0.1)):
        page.evaluate(
            "([id, v]) => { const e = document.getElementById(id); e.value = v;"
            "e.dispatchEvent(new Event('input')); }",
            [name, value],
        )
    begin, end = page.evaluate("[listening.player.from, listening.player.to]")
    assert (begin, end) == pytest.approx((1.0, 1.5), abs=0.01)  # never under half a second
    until(page, "() => listening.player.playing && listening.player.level() > 0.01")
    place = page.evaluate("listening.player.position()")
    assert begin <= place <= end
    page.close()


def test_versions_sound_though_the_reference_was_asked_for_before(
    server: ListeningServer, browser: Any
) -> None:
    page = browser.new_page()
    held: list[Any] = []
    page.route("**/audio/*", lambda route: held.append(route))
    page.goto(server.url)
    page.wait_for_selector("#begin:visible", timeout=SLOW)
    page.click("#try")
    page.click("#begin")
    reference, *versions = page.evaluate(
        "[listening.study.pages[0].reference, ...listening.study.pages[0].stimuli]"
    )
    while not any(versions[-1] in route.request.url for route in held):
        page.wait_for_timeout(20)
    for route in [route for route in held if reference in route.request.url]:
        held.remove(route)
        route.continue_()
    page.wait_for_timeout(500)  # the reference is there, the versions are not
    for route in held:
        route.continue_()
    page.wait_for_selector("#page:visible", timeout=SLOW)
    assert not page.evaluate("listening.player.playing")
    page.keyboard.press("1")
    until(page, "t => listening.player.voices.get(t)?.gain.gain.value > 0.99", versions[0])
    until(page, "() => listening.player.level() > 0.01")
    page.close()


def test_trouble_and_other_windows_lose_nothing(server: ListeningServer, browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector("#begin:visible", timeout=SLOW)
    listener = page.evaluate("listening.study.listener")
    page.click("#begin")
    page.wait_for_selector("#page:visible", timeout=SLOW)
    page.wait_for_selector("#saved:text-is('Saved')", timeout=SLOW)

    # What was said while the server was away is only here. A failing server is no reason to forget.
    context.set_offline(True)
    page.keyboard.press("1")
    page.keyboard.press("End")
    until(page, "() => Object.keys(listening.said.pages).length === 1")
    page.wait_for_selector("text=No connection", timeout=SLOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        context.set_offline(False)
        page.wait_for_selector("text=disk cannot be used (No space left on device)", timeout=SLOW)
    page.wait_for_selector("#saved:text-is('Saved')", timeout=SLOW)
    context.set_offline(True)
    page.keyboard.press("2")
    page.keyboard.press("End")
    page.wait_for_selector("text=No connection", timeout=SLOW)
    context.set_offline(False)
    page.route("**/api/**", lambda route: route.fulfill(status=503, body="busy"))
    page.reload()
    page.wait_for_selector("text=The server does not answer", timeout=SLOW)
    page.unroute("**/api/**")

    # Another listener in the same browser: what the first one said reaches the server before.
    page.goto(f"{server.url}?new")
    page.wait_for_selector("#begin:visible", timeout=SLOW)
    assert page.evaluate("listening.study.listener") != listener
    said = json.loads(server.result(listener).read_text("utf-8"))
    assert [100, 100] in [list(p["ratings"].values()) for p in said["pages"].values()]

    # The same listener in two windows: the older one says that it is, and undoes nothing, however
    # much it counts by the steps of a slider.
    page.click("#begin")
    page.wait_for_selector("#page:visible", timeout=SLOW)
    page.wait_for_selector("#saved:text-is('Saved')", timeout=SLOW)
    other = context.new_page()
    other.goto(server.url)
    other.wait_for_selector("#begin:visible", timeout=SLOW)
    other.click("#begin")
    for key in ("1", "2"):
        other.wait_for_selector("#page:visible", timeout=SLOW)
        other.keyboard.press(key)
        other.keyboard.press("End")
    other.wait_for_selector("#saved:text-is('Saved')", timeout=SLOW)
    page.bring_to_front()
    drag(page, 3, range(1, 61))
    page.wait_for_selector("text=goes on in another window", timeout=SLOW)
    assert page.evaluate("listening.said.revision") > other.evaluate("listening.said.revision")
    listener = page.evaluate("listening.study.listener")
    said = json.loads(server.result(listener).read_text("utf-8"))
    assert sum(len(p["ratings"]) for p in said["pages"].values()) == 2
    # Nor does its copy, which is newer by number, when it is opened again.
    page.reload()
    page.wait_for_selector("#begin:visible", timeout=SLOW)
    assert page.evaluate("listening.said.pages") == said["pages"]
    context.close()
