"""The studio in a real browser: a real song dropped, separated, heard, redone, downloaded.

Needs Playwright and a Chromium, as `browsing` has them. SOLOVOX_SONG=FILE takes another song than
the noise and tones of the tests.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import SLOW, picture, until
from click.testing import CliRunner

from solovox.audio import read_audio
from solovox.cli import main
from solovox.separator import STEMS
from solovox.studio import api

from .conftest import Client, make_song

pytestmark = pytest.mark.filterwarnings("default")  # what a browser leaves behind is not ours

DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open the page; an error in it, or a request to another host, fails the test."""
    contexts, troubles = [], []

    def visiting(client: Client, size: dict[str, int] | None = None, **settings: Any) -> Any:
        context = browser.new_context(viewport=size or DESKTOP, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SLOW)
        own = f"http://127.0.0.1:{client.studio.port}/"
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "request",
            lambda asked: (
                asked.url.startswith((own, "blob:", "data:"))
                or troubles.append(f"asked {asked.url}")
            ),
        )
        page.on(
            "console",
            lambda said: troubles.append(said.text) if "Content Security" in said.text else None,
        )
        page.goto(client.studio.url)
        page.wait_for_selector("body[data-ready]")
        return page

    yield visiting
    for context in contexts:
        context.close()
    assert not troubles


def done(page: Any, takes: int) -> None:
    """Wait until the open song has so many takes that are done."""
    until(
        page,
        "n => [...studio.songs.values()].some(s => s.id === studio.open"
        " && s.takes.filter(t => t.status === 'done').length === n)",
        takes,
    )


def drop(page: Any, *files: Path) -> None:
    """Drag files or folders over the page, as from the desktop, and let them go."""
    devtools = page.context.new_cdp_session(page)
    dragged = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        if kind == "drop":
            page.wait_for_selector("#dropping:visible")
        at = {"type": kind, "x": 600, "y": 300, "data": dragged}
        devtools.send("Input.dispatchDragEvent", at)
    page.wait_for_selector("#dropping", state="hidden")
    devtools.detach()


def choose(page: Any, button: str, *files: Path) -> None:
    with page.expect_file_chooser() as coming:
        page.click(button)
    coming.value.set_files([str(file) for file in files])


def song_file(folder: Path) -> Path:
    given = os.environ.get("SOLOVOX_SONG")
    return Path(given) if given else make_song(folder / "song.wav", 6.0)


def test_a_song_from_drop_to_download(
    start: Callable[..., Client], visit: Callable[..., Any], tmp_path: Path
) -> None:
    client = start()
    file = song_file(tmp_path)
    page = visit(client, color_scheme="dark")
    picture(page, "studio-welcome")
    drop(page, file)
    page.wait_for_selector("#songs li .open")
    page.wait_for_selector("#song:visible")
    done(page, 1)
    page.wait_for_selector(".lane.vocals:not(.absent)")
    assert page.inner_text("#title") == file.stem

    # Sound is made, and goes on; switching tracks moves gains, not the position.
    page.click("#play")
    until(page, "() => studio.player.level() > 0.001")
    first = page.evaluate("studio.player.position()")
    until(page, "p => studio.player.position() > p + 20000", first)
    page.keyboard.press("2")  # vocals alone
    take = page.evaluate("studio.pair.a")
    until(page, "t => studio.player.gain(`${t}.accompaniment`) === 0", take)
    assert page.evaluate("t => studio.player.gain(`${t}.vocals`)", take) == 1
    page.keyboard.press("2")
    until(page, "t => studio.player.gain(`${t}.accompaniment`) === 1", take)
    page.keyboard.press(" ")
    until(page, "() => !studio.player.playing")
    stopped = page.evaluate("studio.player.position()")
    page.wait_for_timeout(200)
    assert page.evaluate("studio.player.position()") == stopped

    # A region is dragged, looped, and generated again.
    box = page.locator(".lane.vocals .spec").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + 30, steps=6)
    page.mouse.up()
    region = page.evaluate("studio.region")
    seconds = page.evaluate("studio.lanes.seconds")
    assert region["start"] == pytest.approx(0.3 * seconds, abs=0.05 * seconds)
    assert region["end"] == pytest.approx(0.55 * seconds, abs=0.05 * seconds)
    page.keyboard.press("l")
    page.keyboard.press(" ")
    until(page, "() => studio.player.level() > 0.001")
    for _ in range(12):
        page.wait_for_timeout(150)
        place = page.evaluate("studio.player.seconds")
        assert region["start"] - 0.01 <= place <= region["end"] + 0.01
    picture(page, "studio-song")
    page.keyboard.press("r")
    page.wait_for_selector("#knobs[open]")
    picture(page, "studio-knobs")
    page.fill("#knob-seed", "7")
    page.click("#go")
    done(page, 2)
    until(page, "t => studio.pair.b === t && studio.pair.a !== t", take)
    second = page.evaluate("studio.pair.a")
    assert page.evaluate("studio.player.playing")  # all the while

    # A and B at the sample: both are loaded, only gains move.
    until(page, "t => studio.player.gain(`${t}.vocals`) === 1", second)
    page.keyboard.press("x")
    until(page, "t => studio.player.gain(`${t}.vocals`) === 1", take)
    until(page, "t => studio.player.gain(`${t}.vocals`) === 0", second)
    page.keyboard.press("x")
    page.keyboard.press(" ")
    picture(page, "studio-redone")

    # Stems and settings come down; the command line makes the same bytes of them.
    got = {}
    for name in ("vocals", "accompaniment", "settings"):
        with page.expect_download() as coming:
            page.click(f"#get-{name}")
        got[name] = tmp_path / coming.value.suggested_filename
        coming.value.save_as(got[name])
    words = ["separate", str(file), "--settings", str(got["settings"]), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    for stem in STEMS:
        (made,) = (tmp_path / "out").rglob(f"{stem}.wav")
        assert made.read_bytes() == got[stem].read_bytes()

    # Undo goes back and keeps the take; a reload finds all of it.
    page.keyboard.press("u")
    until(page, "t => studio.pair.a === t", take)
    until(page, "t => studio.songs.get(studio.open).current === t", take)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    until(page, "t => studio.pair.a === t", take)
    assert page.locator("#takes li").count() == 2


def test_an_answer_that_news_have_overtaken_undoes_nothing(
    start: Callable[..., Client], visit: Callable[..., Any], tmp_path: Path
) -> None:
    client = start()
    client.separated(make_song(tmp_path / "song.wav", 2.0), quality="fast")
    page = visit(client)
    page.click("#songs .open")
    done(page, 1)
    late = []
    page.route("**/takes", lambda route: late.append((route, route.fetch())))
    page.click("#new-take")
    page.click("#go")
    done(page, 2)  # the page knows by news; what the server answered first comes now
    ((route, answer),) = late
    with page.expect_response("**/takes"):
        route.fulfill(response=answer)
    page.wait_for_timeout(200)
    assert [take["status"] for take in answer.json()["takes"]] != ["done", "done"]
    statuses = "[...studio.songs.values()][0].takes.map(take => take.status)"
    assert page.evaluate(statuses) == ["done", "done"]


def test_what_is_heard_is_every_sample(
    start: Callable[..., Client], visit: Callable[..., Any], tmp_path: Path
) -> None:
    """Across blocks, and around a loop, the sound card gets the samples of the file."""
    client = start()
    file = make_song(tmp_path / "song.wav", 3.0)
    song = client.separated(file, quality="fast")
    page = visit(client)
    page.click("#songs .open")
    page.wait_for_selector("#transport:visible")
    page.evaluate(
        """async () => {
            const { player } = studio;
            const detail = {stem: 'mixture', kind: 'solo'};
            studio.lanes.dispatchEvent(new CustomEvent('strip', {detail}));
            await player.play();
            player.pause();
            player.seek(0);
            globalThis.heard = [];
            const tap = player.context.createScriptProcessor(16384, 2, 2);
            tap.onaudioprocess = (event) => heard.push([...event.inputBuffer.getChannelData(0)]);
            player.output.connect(tap);
            tap.connect(player.context.destination);
            player.setLoop({start: 30000, end: 70000});
            player.seek(30000);
            await player.play();
        }"""
    )
    audio = read_audio(file)[0][0]
    loop = np.tile(audio[30_000:70_000], 5)
    for _ in range(12):  # a loaded machine may be late: then it is no test of the page
        page.evaluate("() => { heard.length = 0; }")
        until(page, "() => heard.length * 16384 > 100000")
        heard = np.concatenate([np.array(b, np.float32) for b in page.evaluate("heard")])
        # Find where in the loop it is; from there on all must fit, around the loop's end too.
        probe = heard[:400]
        fits = [k for k in range(40_000) if (loop[k : k + 400] == probe).all()]
        if len(fits) == 1 and (heard == loop[fits[0] : fits[0] + len(heard)]).all():
            break
    else:
        raise AssertionError("what is heard is not in the file")
    assert len(heard) > 80_000
    assert song["current"]


def test_many_songs_at_once_and_trouble(
    start: Callable[..., Client], visit: Callable[..., Any], tmp_path: Path
) -> None:
    client = start()
    for folder in ("dropped/inside", "chosen/inside"):
        (tmp_path / folder).mkdir(parents=True)
    for number, name in enumerate(("dropped/Hydrogen", "dropped/inside/Helium", "chosen/Lithium",
                                   "chosen/inside/Beryllium", "Boron")):  # fmt: skip
        make_song(tmp_path / f"{name}.wav", 2.0, number)
    for nothing in ("dropped/notes.txt", "chosen/notes.txt", "chosen/.hidden.wav"):
        (tmp_path / nothing).write_bytes(b"no song")
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(b"nothing to hear")
    page = visit(client)
    drop(page, tmp_path / "dropped", broken)
    until(page, "() => studio.songs.size === 2")
    page.wait_for_selector("#toasts .bad")
    assert "broken" in page.inner_text("#toasts")
    assert page.locator("#toasts .bad").count() == 1
    choose(page, "#pick-folder", tmp_path / "chosen")
    choose(page, "#pick", tmp_path / "Boron.wav")
    until(page, "() => studio.songs.size === 5")
    picture(page, "studio-queue")
    last = page.locator("#songs li", has_text="Boron")
    if last.get_attribute("class").startswith("queued"):
        last.locator(".act").evaluate("button => button.click()")  # rows may be made anew
        until(page, "() => document.querySelector('#songs .cancelled')")
        last.locator(".retry").evaluate("button => button.click()")
        until(page, "() => !document.querySelector('#songs .cancelled')")
    until(
        page, "() => [...studio.songs.values()].every(s => s.takes.every(t => t.status === 'done'))"
    )
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#songs li", has_text="Helium").locator(".act").click()
    until(page, "() => studio.songs.size === 4")
    assert len(client.ask("GET", "/api/songs")[1]) == 4


def test_uploads_are_stopped_while_they_wait_and_while_they_are_sent(
    start: Callable[..., Client],
    visit: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped, let_go = threading.Event(), threading.Event()
    receive = api._receive

    async def held(request: Any, path: Path, most: int) -> int:
        total = await receive(request, path, most)
        while not (let_go.is_set() or await request.is_disconnected()):
            await asyncio.sleep(0.02)
        if await request.is_disconnected():
            stopped.set()
        return total

    monkeypatch.setattr(api, "_receive", held)
    client = start()
    names = ("Neon", "Sodium", "Argon", "Iron", "Zinc")
    files = [make_song(tmp_path / f"{name}.wav", 1.0) for name in names]
    page = visit(client)
    choose(page, "#pick", *files)
    for name, left in (("Zinc", 4), ("Neon", 3)):  # three are sent at a time, the others wait
        page.click(f"[aria-label='Stop sending {name}.wav']")
        until(page, "n => document.querySelectorAll('#songs li').length === n", left)
    assert stopped.wait(SLOW / 1000)
    let_go.set()
    until(page, "() => studio.songs.size === 3")
    assert {song["name"] for song in client.ask("GET", "/api/songs")[1]} == set(names[1:4])
    assert page.locator("#toasts .bad").count() == 0


def test_a_song_without_takes_gets_one_by_enter(
    start: Callable[..., Client], visit: Callable[..., Any], file: Path
) -> None:
    client = start()
    song = client.upload(file, separate=False)
    page = visit(client)
    page.click("#songs .open")
    for closing in ("#knobs [aria-label=Close]", "#knobs footer [value=cancel]"):
        page.click("#new-take")
        page.fill("#knob-seed", "")  # does not keep it open
        page.click(closing)
        page.wait_for_selector("#knobs", state="hidden")
    page.click("#new-take")
    page.fill("#knob-seed", "7")
    page.press("#knob-seed", "Enter")
    done(page, 1)
    assert [take["knobs"]["seed"] for take in client.song(song["id"])["takes"]] == [7]


def test_the_keyboard_keeps_its_place(
    start: Callable[..., Client], visit: Callable[..., Any], file: Path
) -> None:
    client = start()
    song = client.separated(file, quality="fast")
    path = f"/api/songs/{song['id']}/takes"
    client.ask("POST", path, {"knobs": {"quality": "fast", "seed": 1}})
    client.until(song["id"], "done")
    page = visit(client)
    page.focus("#quality [data-quality=best]")
    page.keyboard.press("Enter")
    assert page.locator("#quality :focus").get_attribute("aria-pressed") == "true"
    page.click("#songs .open")
    page.focus("[aria-label='Take 1 as A']")
    page.keyboard.press("Enter")
    until(page, "t => studio.pair.a === t", song["current"])
    assert page.locator("#takes :focus").get_attribute("aria-label") == "Take 1 as A"
    client.ask("POST", path, {"knobs": {"quality": "fast", "seed": 2}})
    done(page, 3)
    assert page.locator("#takes :focus").get_attribute("aria-label") == "Take 1 as A"


def test_a_picture_that_did_not_come_is_asked_for_again(
    start: Callable[..., Client], visit: Callable[..., Any], file: Path
) -> None:
    client = start()
    song = client.separated(file, quality="fast")
    page = visit(client)
    peaks = f"**/tracks/{song['current']}.vocals/peaks"
    page.route(peaks, lambda route: route.abort())
    page.click("#songs .open")
    page.wait_for_selector("#toasts .bad")
    page.unroute(peaks)
    page.keyboard.press("1")  # anything that shows the song again
    until(
        page,
        """() => {
            const canvas = document.querySelector('.lane.vocals canvas');
            const { data } = canvas.getContext('2d')
                .getImageData(0, 0, canvas.width, canvas.height);
            return data.some(Boolean);
        }""",
    )


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_a_phone(
    start: Callable[..., Client], visit: Callable[..., Any], tmp_path: Path, scheme: str
) -> None:
    client = start()
    file = song_file(tmp_path)
    song = client.separated(file)
    half = song["frames"] / song["sample_rate"] / 2
    asked = {"parent": song["current"], "start": half - 1, "end": half, "knobs": {"seed": 5}}
    client.ask("POST", f"/api/songs/{song['id']}/takes", asked)
    client.until(song["id"], "done")
    page = visit(
        client, PHONE, is_mobile=True, has_touch=True, color_scheme=scheme, reduced_motion="reduce"
    )
    page.wait_for_selector("#songs .open")
    picture(page, f"studio-phone-queue-{scheme}")
    page.tap("#songs .open")
    page.wait_for_selector(".lane.vocals:not(.absent)")
    assert page.is_hidden("#side")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.tap("#play")
    until(page, "() => studio.player.level() > 0.001")
    page.tap("#hear-b")
    until(page, "() => studio.heard === 'b'")
    picture(page, f"studio-phone-{scheme}")
    heights = page.evaluate(
        "[...document.querySelectorAll('#song button, #transport button, #song a.button')]"
        ".filter(e => e.offsetParent).map(e => e.getBoundingClientRect().height)"
    )
    assert min(heights) >= 28
    page.tap("#back")
    assert page.is_visible("#side")


def test_everything_has_a_name_and_enough_contrast(
    start: Callable[..., Client], visit: Callable[..., Any], file: Path
) -> None:
    client = start()
    client.separated(file, quality="fast")
    for scheme in ("dark", "light"):
        page = visit(client, color_scheme=scheme)
        page.click("#songs .open")
        page.wait_for_selector(".lane.vocals:not(.absent)")
        nameless = page.evaluate(
            """[...document.querySelectorAll('button, input, select, a')]
                .filter(e => e.offsetParent && e.type !== 'file')
                .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim()
                    || e.labels?.length)).map(e => e.outerHTML)"""
        )
        assert nameless == []
        ratios = page.evaluate(
            """[...document.querySelectorAll('#song *, #side *, #transport *')]
                .filter(e => e.offsetParent && !e.closest(':disabled, [aria-disabled=true]')
                    && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
                .map(e => {
                    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
                    const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.04045
                        ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
                    let behind = e;
                    while (behind && (parse(getComputedStyle(behind).backgroundColor)[3] ?? 1) < 1)
                        behind = behind.parentElement;
                    const [a, b] = [light(parse(getComputedStyle(e).color)),
                        light(parse(getComputedStyle(behind ?? document.body).backgroundColor))];
                    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML];
                }).filter(([ratio]) => ratio < 4.5)"""
        )
        assert ratios == []
