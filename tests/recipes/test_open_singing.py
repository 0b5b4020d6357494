"""The open training set: the split, the melody, the singing, the bands and the pairs hold."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("scipy")
RECIPE = Path(__file__).parents[2] / "recipes" / "open-singing"


def load(name: str) -> ModuleType:
    if str(RECIPE) not in sys.path:
        sys.path.insert(0, str(RECIPE))
    return importlib.import_module(name)


mixing, sources, voices = load("mixing"), load("sources"), load("voices")
bands = load("bands")


def tone(frequency: float, seconds: float, level: float = 0.2) -> np.ndarray:
    t = np.arange(int(seconds * 44100)) / 44100
    return (level * np.sin(2 * np.pi * frequency * t)).astype(np.float32)


def buzz(frequency: float, seconds: float) -> np.ndarray:
    """A voice-like periodic sound with the burst of a syllable every 400 ms."""
    n = int(seconds * 44100)
    pulses = np.zeros(n)
    pulses[:: int(44100 / frequency)] = 1.0
    formants = [mixing.biquad("peak", f, 24, 4) for f in (700, 1200, 2800)]
    y = mixing.equalise(pulses, [mixing.biquad("lowpass", 2000), *formants])
    y = y * (0.05 + np.abs(np.sin(np.pi * np.arange(n) / (0.4 * 44100))))
    return (0.5 * y / np.abs(y).max()).astype(np.float32)


def bank_of(clips: list[np.ndarray]) -> object:
    ends = np.cumsum([len(c) for c in clips])
    limits = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    return voices.Bank((np.concatenate(clips) * 32767).astype(np.int16), limits)


def test_test_split_shares_no_package_and_no_voice() -> None:
    def of(split: str) -> set[str]:
        everything = (*sources.MUSIC, *sources.VOICES, *sources.SINGERS)
        return {s.package for s in everything if s.split == split}

    assert of("test").isdisjoint(of("train") | of("valid"))
    spoken = {
        split: {v.name.split("-")[1] for v in sources.VOICES if v.split == split}
        for split in ("train", "valid", "test")
    }
    assert spoken["test"].isdisjoint(spoken["train"] | spoken["valid"])
    music = [s.package for s in sources.MUSIC]
    assert len(music) == len(set(music))
    names = [v.name for v in (*sources.VOICES, *sources.SINGERS)]
    assert len(names) == len(set(names))


def test_kept_aside_songs_are_never_named() -> None:
    named = {n for names in sources.REAL_SONGS.values() for n in names}
    assert named == {"Hydrogen", "Lithium", "Potassium", "Rubidium", "Francium"}


def test_plan_is_stable_and_a_longer_one_extends_a_shorter_one() -> None:
    pytest.importorskip("pyworld")
    build = load("build")
    pool = [
        sources.Track(p, (f"{p}/{k}.ogg",), 300.0 + k, "x", split)
        for p, split in (("nexuiz-music", "train"), ("pushover-data", "valid"))
        for k in range(30)
    ]
    short = build.plan(pool, {"speech": 0.5, "midi": 0.2})
    longer = build.plan(pool, {"speech": 1.0, "midi": 0.4})
    assert set(short) < set(longer)
    assert short == build.plan(pool, {"speech": 0.5, "midi": 0.2})
    assert all(i.package == "pushover-data" for i in longer if i.split == "valid" and i.package)
    total = sum(i.seconds for i in short if i.group == "speech" and i.split == "train")
    assert 1800 <= total < 1800 + 150


def test_groups_get_their_share_of_the_draws() -> None:
    pytest.importorskip("pyworld")
    build = load("build")
    groups = {"cc0": (4, 300.0), "formants": (24, 300.0), "midi": (100, 90.0), "inst": (50, 120.0)}
    records = [
        {"song": f"{group}-{k}", "group": group, "seconds": seconds}
        for group, (count, seconds) in groups.items()
        for k in range(count)
    ]
    weights = build.sampling_weights(records, "train")
    draws = dict.fromkeys(groups, 0.0)
    for record in records:
        draws[record["group"]] += weights[record["song"]] * record["seconds"]
    total = sum(draws.values())
    for group in ("cc0", "formants"):
        assert draws[group] / total == pytest.approx(build.SHARES[group], abs=2e-3)
    assert draws["midi"] / draws["inst"] == pytest.approx(100 * 90 / (50 * 120))
    assert set(build.sampling_weights(records, "valid").values()) == {1.0}


def test_formants_move_and_pitch_stays() -> None:
    formants = load("formants")
    voice = np.stack([buzz(110, 2.0)] * 2)
    moved = formants.move_formants(voice, 1.2)
    assert moved.shape == voice.shape

    def spectrum(x: np.ndarray) -> np.ndarray:
        return np.abs(np.fft.rfft(x[0] * np.hanning(x.shape[1])))  # bins of half a hertz

    before, after = spectrum(voice), spectrum(moved)

    def harmonic(x: np.ndarray, hertz: float) -> float:
        return float(x[int(2 * hertz) - 40 : int(2 * hertz) + 40].max())

    assert abs(int(after[160:280].argmax()) - int(before[160:280].argmax())) <= 2  # 80 to 140 Hz
    # The second formant, at 1200 Hz, goes to 1440 Hz: the harmonics there gain on those below.
    period = 44100 / int(44100 / 110)
    gains = {k: harmonic(after, k * period) / harmonic(before, k * period) for k in (10, 13)}
    assert gains[13] > 1.5 * gains[10]
    np.testing.assert_allclose((moved**2).mean(), (voice**2).mean(), rtol=0.05)


def test_pair_is_one_gain_and_does_not_clip() -> None:
    vocals = np.stack([tone(440, 1.0)] * 2)
    music = np.stack([tone(110, 1.0, 1.5)] * 2)
    v, m = mixing.pair(vocals, music, 0.9)
    gain = v[0, 25] / vocals[0, 25]
    np.testing.assert_allclose(m, gain * (vocals + music), atol=1e-6)
    assert max(np.abs(m).max(), np.abs(m - v).max()) <= 0.9 + 1e-6


@pytest.mark.parametrize("over", [-20.0, 0.0, 20.0])
def test_balance_keeps_vocals_at_a_plausible_level(over: float) -> None:
    vocals = np.stack([tone(440, 2.0, 0.01)] * 2)
    music = np.stack([tone(330, 2.0, 0.3)] * 2)
    v = mixing.balance(vocals, music, over)
    ratio = 10 * np.log10((v**2).mean() / (music**2).mean())
    assert -11.1 < ratio < 6.1
    if over == 0.0:
        assert abs(ratio) < 0.5


def test_compressor_lowers_loud_parts_only() -> None:
    quiet, loud = tone(500, 1.0, 0.01), tone(500, 1.0, 0.9)
    x = np.stack([np.concatenate([quiet, loud])] * 2)
    y = mixing.compress(x, -20.0, 4.0)
    np.testing.assert_allclose(y[:, :40000], x[:, :40000], atol=1e-7)
    drop = 20 * np.log10(np.abs(y[:, -20000:]).max() / 0.9)
    assert -15 < drop < -9


def test_cleaning_rejects_noise_and_hiss_and_keeps_a_voice() -> None:
    rng = np.random.default_rng(0)
    assert voices.clean(rng.standard_normal(44100).astype(np.float32) * 0.1, 44100) is None
    assert voices.clean(tone(440, 1.0), 8000) is None
    silence = np.zeros(22050, np.float32)
    kept = voices.clean(np.concatenate([silence, buzz(200, 1.0), silence]), 44100)
    assert kept is not None
    assert 0.8 * 44100 < len(kept) < 1.3 * 44100


@pytest.mark.parametrize("method", ["psola", "world"])
def test_singing_follows_the_melody(method: str) -> None:
    pytest.importorskip("pyworld")
    singing = load("singing")
    rng = np.random.default_rng(3)
    clips = [singing.analyse(buzz(f, 1.6)) for f in (180.0, 200.0)]
    assert all(c.syllables for c in clips)
    notes = [singing.Note(0.5 + k, 0.9, p, k % 2, 0) for k, p in enumerate((55.0, 57.0, 59.0))]
    notes[-1].last = True
    how = singing.Manner(50.0, 0.9, 5.5, 0.0, 0.3, 0.0, 0.0, 1.0)
    line = singing.lay_out(notes, clips, 4.0, how, rng)
    render = {"psola": singing.render_overlap, "world": singing.render_world}[method]
    y = render(line, clips, rng)
    assert len(y) == 4 * 44100
    assert np.isfinite(y).all()
    assert np.abs(y[:8820]).max() < 1e-3
    for note in notes:
        a = int((note.at + 0.3) * 44100)
        part = y[a : a + 13230] * np.hanning(13230)
        wanted = 440 * 2 ** ((note.pitch - 69) / 12)
        lags = np.arange(int(44100 / wanted * 0.8), int(44100 / wanted * 1.25))
        best = lags[np.argmax([np.dot(part[:-k], part[k:]) for k in lags])]
        assert abs(12 * np.log2(44100 / best / wanted)) < 0.5


def test_key_of_a_scale_is_found() -> None:
    pytest.importorskip("pyworld")
    singing = load("singing")
    chords = [(0, 4, 7), (5, 9, 0), (7, 11, 2), (0, 4, 7)]
    notes = [[tone(440 * 2 ** ((62 + p - 69) / 12), 1.0) for p in chord] for chord in chords]
    x = np.concatenate([np.sum(c, axis=0) for c in notes])
    assert singing.find_key(np.stack([x, x])) == (2, False)


def test_bands_never_use_a_voice_program() -> None:
    for style in bands.STYLES.values():
        assert bands.VOICE_PROGRAMS.isdisjoint((*style.chords, *style.bass, *style.lead))
    with pytest.raises(ValueError, match="voice"):
        bands.render_midi([], 120.0, 53, False, Path("x.sf2"), 100)


def test_parts_stay_in_the_song_and_in_the_chord() -> None:
    score = bands.write_score(np.random.default_rng(1), 60.0)
    assert len(score.bars) * 240 / score.tempo >= 60.0
    for at, _, pitch, velocity in bands.chord_part(score, np.random.default_rng(2), 50):
        assert 0 < velocity < 128
        assert pitch % 12 in score.bars[int(at / 4)][1]


def test_midi_file_has_every_note() -> None:
    data = bands.midi_file([(0.0, 1.0, 60, 90), (1.0, 0.5, 64, 80)], 120.0, 4, False)
    assert data[:4] == b"MThd"
    assert data.count(b"\x90") == 2
    assert bytes([0xC0, 4]) in data
    assert data.endswith(b"\xff\x2f\x00")


def test_synthesiser_does_not_alias() -> None:
    sound = bands.Patch(False, 1, 0, 0.003, 20, 0.05, 18000, 0, 0)
    x = bands.render_synth([(0, 4, 93, 127)], 120.0, sound, 88200, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(x[0, 4410:70000] * np.hanning(65590))) ** 2
    f = np.fft.rfftfreq(65590, 1 / 44100)
    away = np.abs((f / 1760 + 0.5) % 1 - 0.5) * 1760 > 60
    assert 10 * np.log10(power[away].sum() / power.sum()) < -30


def test_real_song_is_taken_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("pyworld")
    sf = pytest.importorskip("soundfile")
    build = load("build")
    folder = tmp_path / "songs" / "train" / "Hydrogen"
    folder.mkdir(parents=True)
    for name, x in (("vocals", tone(440, 1.0)), ("accompaniment", tone(110, 1.0))):
        sf.write(str(folder / f"{name}.ogg"), np.stack([x, x]).T, 44100)
    place = build.Place(tmp_path / "out", tmp_path / "work", tmp_path / "songs")
    item = build.Item("cc0", "cc0-Hydrogen", "train", 0.0)
    build.build_item(item, place)
    assert build.finished(item, place.out)
    song = tmp_path / "out" / "train" / "cc0-Hydrogen"
    v, m = mixing.read(song / "vocals.wav"), mixing.read(song / "mixture.wav")
    np.testing.assert_allclose(v[0], tone(440, 1.0), atol=0.02)
    np.testing.assert_allclose(m - v, np.stack([tone(110, 1.0)] * 2), atol=0.02)
    manifest = build.write_papers(place)
    assert manifest["songs"][0]["sources"][0]["licence"] == "CC0-1.0"
    assert json.loads((tmp_path / "out/train/weights.json").read_text()) == {"cc0-Hydrogen": 1.0}


def test_stems_are_summed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    songs = load("songs")
    monkeypatch.setattr(songs, "REAL_SONGS", {"train": ("Hydrogen",)})
    folder = tmp_path / "clone" / "src" / "1.Hydrogen"
    folder.mkdir(parents=True)
    parts = {"VOX LEAD": 440, "BGVOX AAH_mobile": 660, "KICK": 110, "KICK_mobile": 3000}
    for name, frequency in parts.items():
        with av.open(str(folder / f"1.Hydrogen_Stem_{name}.m4a"), "w") as container:
            stream = container.add_stream("aac", rate=44100, layout="stereo")
            x = np.stack([tone(frequency, 1.0)] * 2)
            frame = av.AudioFrame.from_ndarray(x, format="fltp", layout="stereo")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    monkeypatch.setattr(sys, "argv", ["songs.py", str(tmp_path / "clone"), str(tmp_path / "out")])
    songs.main()

    def strongest(name: str, count: int) -> set[int]:
        x = mixing.read(tmp_path / "out" / "train" / "Hydrogen" / f"{name}.ogg")[0, 8820:35280]
        power = np.abs(np.fft.rfft(x * np.hanning(len(x))))
        peaks = np.argsort(power)[::-1] * 44100 / len(x)
        return {round(f / 110) * 110 for f in peaks[: 3 * count]}

    assert strongest("vocals", 2) == {440, 660}
    assert strongest("accompaniment", 1) == {110}


def test_no_file_of_recorded_singing_belongs_to_two_singers() -> None:
    globs = [(v.package, g) for v in sources.SINGERS for g in v.globs]
    assert len(globs) == len(set(globs))
    assert {v.package for v in sources.SINGERS} == {r.name for r in sources.REPOSITORIES}


def test_recording_falls_into_its_phrases() -> None:
    rest = np.zeros(22050, np.float32)
    first, second = tone(220, 1.5), tone(330, 0.9)
    short = tone(440, 0.1)
    found = voices.phrases(np.concatenate([rest, first, rest, second, rest, short, rest]))
    lengths = [len(x) / 44100 for x in found]
    np.testing.assert_allclose(lengths, [1.8, 1.2], atol=0.05)  # with what surrounds them
    long = voices.phrases(tone(220, 30.0), longest=12.0)
    assert [round(len(x) / 44100) for x in long] == [12, 12, 6]


def test_highs_cut_by_a_coder_are_filled() -> None:
    voice = np.random.default_rng(1).standard_normal(3 * 44100).astype(np.float32)
    voice *= np.repeat([0.0, 1.0, 0.0], 44100).astype(np.float32)
    low = mixing.equalise(voice, [mixing.biquad("lowpass", 3000)] * 8) * 0.1

    def above(x: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(x)) ** 2
        return float(power[len(power) * 8000 // 22050 :].sum() / power.sum())

    plain, filled = voices.clean(low, 44100), voices.clean(low, 44100, top=3000.0)
    assert above(filled) > 100 * above(plain)


def test_transposition_is_small_and_lands_on_a_related_root() -> None:
    pytest.importorskip("pyworld")
    singing = load("singing")
    for of in range(12):
        for to in range(12):
            step = singing.transposition(of, to)
            assert abs(step) <= 3
            assert (of + step - to) % 12 in (0, 5, 7)


def test_recorded_singing_is_moved_to_the_key_of_the_music(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyworld")
    build, singing = load("build"), load("singing")
    chords = [(0, 4, 7), (5, 9, 0), (7, 11, 2), (0, 4, 7)]
    notes = [[tone(261.63 * 2 ** (p / 12), 0.5, 0.1) for p in chord] for chord in chords]
    bank = bank_of([np.concatenate([np.sum(c, axis=0) for c in notes])] * 8)
    assert singing.find_key(bank.clip(0)[None])[0] == 0
    monkeypatch.setattr(build, "_bank", lambda name, work: bank)
    item = build.Item("sung", "sung-0", "train", 20.0)
    rng = np.random.default_rng(0)
    place = build.Place(tmp_path, tmp_path, None)
    vocals, sung_by = build._real(item, place, rng, 20 * 44100, key=2)
    assert vocals.shape == (2, 20 * 44100)
    assert singing.find_key(vocals)[0] in (2, 7, 9)
    assert sung_by[0]["role"] == "lead, recorded singing"
