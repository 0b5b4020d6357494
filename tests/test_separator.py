import logging
import subprocess
import sys
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solovox.audio import AudioReader, read_audio, write_audio
from solovox.errors import AudioError, ModelError, SolovoxError
from solovox.presets import SamplingConfig
from solovox.separator import Separator, find_device, generate_takes

RATE = 8000


def song(samples, channels=2, seed=0, level=0.3):
    noise = np.random.default_rng(seed).standard_normal((channels, samples))
    return (level * noise).astype(np.float32)


def tone(seconds, rate, channels=2, hertz=440):
    time = np.arange(round(seconds * rate)) / rate
    phases = np.arange(channels)[:, None]
    return (0.5 * np.sin(2 * np.pi * hertz * time + phases)).astype(np.float32)


def write_m4a(path, audio, rate):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(audio, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def joined(parts):
    parts = list(parts)
    return {stem: np.concatenate([part[stem] for part in parts], axis=1) for stem in parts[0]}


def test_import_is_light():
    code = "import sys, solovox.cli; sys.exit(any(m in sys.modules for m in ('torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("start", [1.0, 0.3])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("samples", [1, 799, 800, 801, 4321])
def test_what_the_model_knows_comes_out(oracle, samples, eta, start):
    mixture = song(samples)
    stems = Separator(oracle(0.5), eta=eta, start=start).separate(mixture, RATE)
    np.testing.assert_allclose(stems["vocals"], 0.5 * mixture, atol=2e-6)
    np.testing.assert_allclose(stems["accompaniment"], 0.5 * mixture, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 11025, 44100, 6000])
def test_stems_keep_the_shape_and_sum_to_the_mixture(oracle, rate, channels):
    mixture = song(5000, channels)
    stems = Separator(oracle(0.7)).separate(mixture, rate)
    for stem in stems.values():
        assert stem.shape == mixture.shape
        assert stem.dtype == np.float32
    total = stems["vocals"] + stems["accompaniment"]
    assert np.abs(total - mixture).max() <= 1e-6 * np.abs(mixture).max()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(1, 2000), st.sampled_from([8000, 8001, 7999, 44100, 48000, 3000]))
def test_any_length_at_any_rate(oracle, samples, rate):
    stems = Separator(oracle(0.7, chunk=300)).separate(song(samples), rate)
    assert stems["vocals"].shape == (2, samples)
    assert np.isfinite(stems["vocals"]).all()


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 6000])
def test_resampling_there_and_back_shifts_nothing(oracle, rate):
    mixture = tone(0.6, rate)
    vocals = Separator(oracle(1.0)).separate(mixture, rate)["vocals"]
    inner = slice(rate // 20, -rate // 20)  # the resampler hears silence beyond the ends
    error = np.abs(vocals - mixture)[:, inner].max()
    assert error < 1e-4


def test_what_the_model_cannot_hear_stays_in_the_accompaniment(oracle):
    low, high = tone(0.5, 44100, hertz=440), tone(0.5, 44100, hertz=9000)
    stems = Separator(oracle(1.0)).separate(low + high, 44100)
    inner = slice(2000, -2000)
    np.testing.assert_allclose(stems["accompaniment"][:, inner], high[:, inner], atol=1e-3)


def test_mono_is_doubled_and_folded_back(oracle):
    seen = []

    def listen(x_t, mixture):
        seen.append(mixture)
        return 0.5 * mixture + torch.tensor([0.1, -0.1])[:, None]

    mixture = song(700, channels=1)
    vocals = Separator(oracle(formula=listen)).separate(mixture, RATE)["vocals"]
    assert torch.equal(seen[0][:, 0], seen[0][:, 1])
    np.testing.assert_allclose(vocals, 0.5 * mixture, atol=1e-6)


def test_batch_size_blocks_and_files_do_not_change_a_bit(network, tmp_path):
    mixture = song(20_000)
    write_audio(tmp_path / "song.wav", mixture, RATE)
    offline = Separator(network).separate(mixture, RATE)
    four = Separator(network, batch_size=4).separate(mixture, RATE)
    again = Separator(network).separate(*read_audio(tmp_path / "song.wav"))
    cut = (mixture[:, start : start + 997] for start in range(0, 20_000, 997))
    streamed = joined(Separator(network).stream(cut, RATE))
    paths = Separator(network).separate_file(tmp_path / "song.wav", tmp_path)
    for stem, expected in offline.items():
        np.testing.assert_array_equal(four[stem], expected)
        np.testing.assert_array_equal(again[stem], expected)
        np.testing.assert_array_equal(streamed[stem], expected)
        np.testing.assert_array_equal(read_audio(paths[stem])[0], expected)
    other = Separator(network, seed=1).separate(mixture, RATE)
    assert not np.array_equal(other["vocals"], offline["vocals"])


def test_resampled_streams_do_not_depend_on_blocks(oracle):
    separator = Separator(oracle(formula=lambda x_t, mixture: torch.tanh(x_t + mixture)))
    mixture = song(9000)
    offline = separator.separate(mixture, 11025)
    for size in (1000, 3333, 9000):
        blocks = (mixture[:, start : start + size] for start in range(0, 9000, size))
        streamed = joined(separator.stream(blocks, 11025))
        np.testing.assert_array_equal(streamed["vocals"], offline["vocals"])


def test_a_batch_gives_each_chunk_what_it_gets_alone(network):
    separator = Separator(network, precision="fp32")
    counter = type("Counter", (), {"passes": lambda self, items: None})()
    batch = [(index, song(4096, seed=index)) for index in (3, 8, 5)]
    together = separator._rows(batch, counter)
    for item, rows in zip(batch, together, strict=True):
        np.testing.assert_allclose(separator._rows([item], counter)[0], rows, atol=1e-5)


def test_the_generator_runs_once_a_step_and_the_conditioner_once_a_chunk(oracle):
    model = oracle()
    chunks = Separator(model, steps=5).plan.count(3000)
    Separator(model, steps=5).separate(song(3000), RATE)
    assert (model.conditioner.calls, model.generator.calls) == (chunks, 5 * chunks)


def test_no_steps_give_the_estimate(oracle):
    model = oracle(0.5, estimate=0.25)
    mixture = song(3000)
    vocals = Separator(model, steps=0).separate(mixture, RATE)["vocals"]
    np.testing.assert_allclose(vocals, 0.25 * mixture, atol=1e-7)
    assert model.generator.calls == 0


@pytest.mark.parametrize("asked", [{"steps": 0}, {"start": 0.5}])
def test_an_estimate_that_is_not_there_is_not_used(oracle, asked):
    with pytest.raises(ModelError, match="has no estimate"):
        Separator(oracle(estimate=None), **asked).separate(song(100), RATE)


def test_sampling_starts_from_the_estimate(oracle):
    """With a velocity that keeps x_t's own signal, little noise leaves the estimate."""
    keep = oracle(estimate=0.25, formula=lambda x_t, mixture: x_t)
    mixture = song(3000)
    separator = Separator(keep, start=1e-4, steps=1, eta=0)
    vocals = separator.separate(mixture, RATE)["vocals"]
    np.testing.assert_allclose(vocals, 0.25 * mixture, atol=2e-3)


def test_none_is_the_models_own_setting(oracle):
    own = SamplingConfig(steps=3, start=0.7, eta=0.1, cutoff=500)
    assert Separator(oracle(sampling=own)).sampling == own
    changed = Separator(oracle(sampling=own), steps=0, cutoff=0).sampling
    assert (changed.steps, changed.start, changed.eta, changed.cutoff) == (0, 0.7, 0.1, 0)


def test_qualities_are_the_model_s_and_settings_overrule_them(oracle):
    own = SamplingConfig(steps=3, start=0.7, cutoff=500)
    model = oracle(sampling=own)
    assert Separator(model, quality="balanced").sampling == own
    assert Separator(model, quality="fast").sampling.steps == 0
    best = Separator(model, quality="best", start=0.2).sampling
    assert (best.steps, best.start) == (4, 0.2)
    with pytest.raises(ModelError, match="no quality 'x'; it has: fast, balanced, best"):
        Separator(model, quality="x")


def test_refinement_noise_is_filtered_and_seeded_by_chunk(oracle):
    drawn = []
    model = oracle(sampling=SamplingConfig(steps=3, eta=1.0, cutoff=2000))
    model.codec.shape_noise = lambda noise, cutoff: drawn.append((cutoff, noise)) or noise
    Separator(model).separate(song(1400), RATE)
    assert [cutoff for cutoff, _ in drawn] == [2000] * 4  # two chunks, all steps but the last
    draws = [noise for _, noise in drawn]
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


@pytest.mark.parametrize(("sampler", "passes"), [("ddim", 4), ("dpmpp-2m", 4), ("heun", 7)])
def test_any_sampler_and_progress_with_it(oracle, sampler, passes):
    model = oracle(0.5)
    seen = []
    separator = Separator(model, sampler=sampler, steps=4, eta=0)
    vocals = separator.separate(song(700), RATE, progress=seen.append)["vocals"]
    np.testing.assert_allclose(vocals, 0.5 * song(700), atol=1e-5)
    assert model.generator.calls == passes
    assert seen[0] == pytest.approx(1 / (passes + 1))
    assert seen == sorted(seen)


def test_what_a_sampler_refuses_is_one_line(oracle):
    with pytest.raises(SolovoxError, match="eta = 0"):
        Separator(oracle(), sampler="heun", eta=0.4)


def test_silence_stays_silent_and_costs_nothing(oracle):
    model = oracle(formula=lambda x_t, mixture: x_t)
    mixture = song(8000)
    mixture[:, 2000:6000] = 0
    stems = Separator(model).separate(mixture, RATE)
    assert not stems["vocals"][:, 3000:5000].any()
    assert model.conditioner.calls < Separator(model).plan.count(8000)
    assert not Separator(model).separate(np.zeros((2, 900), np.float32), RATE)["vocals"].any()


def test_level_does_not_matter_to_a_model_that_normalises(oracle):
    model = oracle(formula=lambda x_t, mixture: torch.tanh(x_t + mixture), normalise=True)
    mixture = song(3000)
    loud = Separator(model).separate(mixture, RATE)["vocals"]
    quiet = Separator(model).separate(mixture / 8, RATE)["vocals"]
    np.testing.assert_allclose(8 * quiet, loud, atol=1e-5)


def test_types_in_are_types_out_and_input_is_left_alone(oracle):
    separator = Separator(oracle())
    mixture = song(900)
    before = mixture.copy()
    from_torch = separator.separate(torch.from_numpy(mixture), RATE)
    from_numpy = separator.separate(mixture, RATE)
    np.testing.assert_array_equal(mixture, before)
    for stem, audio in from_torch.items():
        assert isinstance(audio, torch.Tensor)
        np.testing.assert_array_equal(audio.numpy(), from_numpy[stem])
    doubled = separator.separate(mixture.astype(np.float64), RATE)["vocals"]
    np.testing.assert_array_equal(doubled, from_numpy["vocals"])


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (np.zeros(100, np.float32), "shape"),
        (np.zeros((1, 2, 100), np.float32), "shape"),
        (np.zeros((6, 100), np.float32), "6 channels"),
        (np.zeros((100, 2), np.float32), "transpose"),
        (np.zeros((2, 0), np.float32), "no samples"),
        (np.full((2, 100), np.nan, np.float32), "NaN"),
        (np.full((2, 100), np.inf, np.float32), "infinite"),
        (np.zeros((2, 100), np.int16), "floating point"),
        (np.zeros((2, 100), np.int16), "divide 16-bit integers by 32768"),
        ([[0.0, 1.0]], "not list$"),
        (np.zeros((2, 100), complex), "not complex128$"),
        ("song.mp3", "use separate_file, or read_audio first"),
        (Path("song.mp3"), "use separate_file, or read_audio first"),
    ],
)
def test_unusable_audio_is_one_line(oracle, audio, says):
    with pytest.raises(AudioError, match=says) as error:
        Separator(oracle()).separate(audio, RATE)
    assert "\n" not in str(error.value)


def test_audio_without_a_rate_is_one_line(oracle):
    with pytest.raises(AudioError, match="use separate_file"):
        Separator(oracle()).separate("song.mp3")
    with pytest.raises(AudioError, match="sample rate"):
        Separator(oracle()).separate(song(10))


def test_channels_must_not_change(oracle):
    with pytest.raises(AudioError, match="from 2 to 1 channels"):
        list(Separator(oracle()).stream([song(10), song(10, 1)], RATE))


@pytest.mark.parametrize(
    "setting",
    [
        {"steps": -1}, {"start": 0.0}, {"start": 1.5}, {"eta": 2.0}, {"cutoff": 1e5},
        {"sampler": "x"}, {"spacing": "x"}, {"takes": 0}, {"batch_size": 0}, {"stems": "x"},
        {"precision": "fp8"}, {"device": "gpu"}, {"device": "meta"},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_one_line(oracle, setting):
    (name,) = setting
    with pytest.raises(SolovoxError, match=name) as error:
        Separator(oracle(), **setting)
    assert "\n" not in str(error.value)


def test_a_device_that_is_not_there_falls_back(caplog):
    if torch.cuda.is_available():
        pytest.skip("cuda is there")
    with caplog.at_level(logging.WARNING, "solovox"):
        assert find_device("cuda:1").type == "cpu"
    assert "cuda:1 is not available" in caplog.text
    assert find_device("auto").type in ("cuda", "mps", "cpu")


def test_progress_rises_to_one(oracle):
    seen = []
    Separator(oracle(), steps=4).separate(song(9000), RATE, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[0] < 0.03  # a step of the first chunk
    assert seen[-1] == 1
    assert len(seen) > 50
    unknown = []
    list(Separator(oracle()).stream([song(900)], RATE, progress=unknown.append))
    assert set(unknown[:-1]) == {0}
    assert unknown[-1] == 1


def test_memory_does_not_grow_with_length(oracle):
    separator = Separator(oracle(), steps=1)

    def peak(blocks):
        tracemalloc.start()
        block = song(2000)
        for _ in separator.stream((block for _ in range(blocks)), 11025):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)  # what is imported and cached on the way is not the stream's
    assert peak(120) < 1.3 * peak(12)


def test_numpy_s_numbers_are_numbers(oracle, tmp_path):
    write_audio(tmp_path / "a.wav", song(2000), RATE)
    numbers = {"steps": np.int64(2), "start": np.float32(0.5), "seed": np.int64(3)}
    Separator(oracle(), **numbers).separate_file(tmp_path / "a.wav", tmp_path, resume=True)


def test_blocks_of_another_type_are_refused(oracle):
    for block in (song(900).astype(np.float64), np.ones((2, 900), np.int16)):
        with pytest.raises(AudioError, match="blocks must be of float32"):
            next(Separator(oracle()).stream([block], RATE))


def test_refinement_noise_without_effect_is_told(oracle, caplog):
    Separator(oracle(), eta=0.5, steps=2)
    assert not caplog.records
    Separator(oracle(), eta=0.5, steps=1)
    assert "needs 2 steps" in caplog.text


def test_stems_that_would_share_a_file_are_refused(oracle, tmp_path):
    write_audio(tmp_path / "a.wav", song(900), RATE)
    with pytest.raises(SolovoxError, match="overwrite each other"):
        Separator(oracle()).separate_file(tmp_path / "a.wav", tmp_path, filename="{track}.wav")


def test_takes_are_functions_of_their_noise(network):
    mixture = torch.from_numpy(song(4096))[None]
    sampling = SamplingConfig(steps=2, start=1.0, eta=0.0)
    shape = (1, network.codec.channels, network.codec.frames(4096))
    with torch.no_grad():
        same, again, other = (
            next(generate_takes(network, mixture, [lambda x=x: torch.full(shape, x)], sampling))
            for x in (0.5, 0.5, 1.0)
        )
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


# Files


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.wav", 44100, 2), ("b.flac", 22050, 1), ("c.mp3", 48000, 2), ("d.m4a", 44100, 2)],
)
def test_files_keep_rate_channels_and_length(oracle, tmp_path, name, rate, channels):
    write = write_m4a if name.endswith("m4a") else write_audio
    write(tmp_path / name, tone(0.7, rate, channels), rate)
    mixture, _ = read_audio(tmp_path / name)
    assert mixture.shape == (channels, round(0.7 * rate))
    paths = Separator(oracle(0.6)).separate_file(tmp_path / name, tmp_path / "out")
    track = tmp_path / "out" / "oracle" / name.split(".")[0]
    assert paths == {stem: track / f"{stem}.wav" for stem in ("vocals", "accompaniment")}
    total = 0
    for path in paths.values():
        audio, written = read_audio(path)
        assert (audio.shape, written) == (mixture.shape, rate)
        total = total + audio
    assert np.abs(total - mixture).max() <= 1e-6 * np.abs(mixture).max()


def test_output_is_as_asked(oracle, tmp_path):
    write_audio(tmp_path / "a song.wav", tone(0.2, RATE), RATE)
    paths = Separator(oracle()).separate_file(
        tmp_path / "a song.wav",
        tmp_path,
        filename="{stem} of {track} ({trackext}).{ext}",
        extension="flac",
        subtype="pcm16",
        stems=["vocals"],
        gain=-6.0,
    )
    assert paths == {"vocals": tmp_path / "oracle" / "vocals of a song (wav).flac"}
    audio, _ = read_audio(paths["vocals"])
    np.testing.assert_allclose(audio, 0.5 * 10**-0.3 * tone(0.2, RATE), atol=1e-4)


def test_clipping_is_told(oracle, tmp_path, caplog):
    write_audio(tmp_path / "loud.wav", 4 * tone(0.2, RATE), RATE)
    separator = Separator(oracle(0.9))
    separator.separate_file(tmp_path / "loud.wav", tmp_path, subtype="pcm16")
    assert "clipped" in caplog.text
    assert "-5.2 dB" in caplog.text
    caplog.clear()
    separator.separate_file(tmp_path / "loud.wav", tmp_path, subtype="pcm16", gain=-5.2)
    separator.separate_file(tmp_path / "loud.wav", tmp_path)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["mp3", "ogg"])
def test_peaks_that_players_clip_are_told(oracle, tmp_path, caplog, kind):
    write_audio(tmp_path / "loud.wav", 4 * tone(0.2, RATE), RATE)
    separator = Separator(oracle(0.9))
    separator.separate_file(tmp_path / "loud.wav", tmp_path, extension=kind)
    assert "most players will clip the peaks" in caplog.text
    assert "-5.2 dB" in caplog.text
    caplog.clear()
    separator.separate_file(tmp_path / "loud.wav", tmp_path, extension=kind, gain=-5.2)
    assert not caplog.records


def test_a_song_that_fails_leaves_nothing(oracle, tmp_path):
    broken = tmp_path / "broken.wav"
    audio = song(50_000)
    audio[:, 40_000] = np.nan
    import soundfile

    soundfile.write(broken, audio.T, RATE, "FLOAT")
    with pytest.raises(AudioError, match=r"broken\.wav"):
        Separator(oracle()).separate_file(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_song_leaves_what_was_there_before(oracle, tmp_path):
    write_audio(tmp_path / "a.wav", tone(2.0, RATE), RATE)
    separator = Separator(oracle())
    paths = separator.separate_file(tmp_path / "a.wav", tmp_path / "out")
    before = {path: path.read_bytes() for path in paths.values()}

    def interrupt(share):
        if share > 0.5:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            separator.separate_file(tmp_path / "a.wav", tmp_path / "out", progress=interrupt)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before


def test_a_folder_that_cannot_be_made_is_one_line(oracle, tmp_path):
    write_audio(tmp_path / "a.wav", tone(0.1, RATE), RATE)
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(AudioError, match="cannot be made"):
        Separator(oracle()).separate_file(tmp_path / "a.wav", tmp_path / "out")


@pytest.mark.parametrize("track", ["../../x", "/x", "..", "a/../../x", "..\\..\\x", ""])
def test_no_name_leads_out_of_the_folder(oracle, tmp_path, track):
    for name in ("oracle", "../evil", "/evil", ".."):
        path = Separator(oracle(name=name)).path_of("x.wav", "vocals", tmp_path, track=track)
        assert path.resolve().is_relative_to(tmp_path)
        assert ".." not in path.relative_to(tmp_path).parts
    dots = Separator(oracle()).path_of("...wav", "vocals", tmp_path)
    assert ".." not in dots.relative_to(tmp_path).parts


def test_a_template_with_unknown_fields_is_one_line(oracle):
    for template in ("{song}.wav", "{0}.wav", "{track", "{track.x}"):
        with pytest.raises(SolovoxError, match="no template"):
            Separator(oracle()).path_of("x.wav", "vocals", filename=template)


def test_a_reader_can_be_streamed(oracle, tmp_path):
    write_audio(tmp_path / "a.flac", tone(0.5, RATE), RATE)
    separator = Separator(oracle())
    with AudioReader(tmp_path / "a.flac") as reader:
        streamed = joined(separator.stream(reader.blocks(500), reader.sample_rate))
    offline = separator.separate(*read_audio(tmp_path / "a.flac"))
    np.testing.assert_array_equal(streamed["vocals"], offline["vocals"])


# What is no number, no path, no sound


@pytest.mark.parametrize("rate", ["44100", None, float("nan"), 44100.5, 0, -8000, 10**9, True, []])
def test_a_rate_that_is_none_is_one_line(oracle, tmp_path, rate):
    write_audio(tmp_path / "a.wav", song(100), RATE)
    for use in (
        lambda: Separator(oracle()).separate(song(100), rate),
        lambda: write_audio(tmp_path / "b.wav", song(100), rate),
        *([lambda: read_audio(tmp_path / "a.wav", rate)] if rate is not None else []),
    ):
        with pytest.raises(AudioError, match="Hz") as error:
            use()
        assert "\n" not in str(error.value)
    assert Separator(oracle()).separate(song(100), np.float64(RATE))["vocals"].shape == (2, 100)


@pytest.mark.parametrize("path", [None, 5, 1.5, b"x.wav", object(), ["a.wav"], "a\0.wav", "", "."])
def test_a_path_that_is_none_is_one_line(oracle, path):
    with pytest.raises(AudioError) as error:
        read_audio(path)
    assert "\n" not in str(error.value)


def test_a_text_file_is_no_audio(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 100)
    with (tmp_path / "a.txt").open() as file, pytest.raises(AudioError, match="bytes"):
        read_audio(file)


@pytest.mark.parametrize(
    "setting",
    [{"steps": "two"}, {"steps": 2.5}, {"steps": 10**9}, {"steps": True}, {"eta": "much"},
     {"eta": float("nan")}, {"start": float("nan")}, {"cutoff": float("nan")}, {"seed": 1.5},
     {"seed": "x"}, {"takes": 1.5}, {"batch_size": "4"}],
)  # fmt: skip
def test_numbers_that_are_none_are_one_line(oracle, setting):
    (name,) = setting
    with pytest.raises(SolovoxError, match=name) as error:
        Separator(oracle(), **setting)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("gain", [float("nan"), float("inf"), 1e9, "3"])
def test_a_gain_that_is_none_is_one_line(oracle, tmp_path, gain):
    write_audio(tmp_path / "a.wav", song(100), RATE)
    with pytest.raises(SolovoxError, match="gain must be"):
        Separator(oracle()).separate_file(tmp_path / "a.wav", tmp_path / "out", gain=gain)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("level", [1e11, 1e30, 3e38, 1e300])
def test_absurdly_loud_arrays_are_refused_as_files_are(oracle, level):
    kind = np.float64 if level > 1e38 else np.float32
    audio = np.full((2, 100), level, kind)
    with pytest.raises(AudioError, match="absurdly large"):
        Separator(oracle()).separate(audio, RATE)
    loud = Separator(oracle()).separate(np.full((2, 100), 1e9, np.float32), RATE)
    assert np.isfinite(loud["vocals"]).all()


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8, bool, complex, object])
def test_arrays_of_other_kinds_are_refused_with_a_hint_for_integers(oracle, kind):
    integers = np.issubdtype(kind, np.integer)
    hint = "; divide 16-bit integers by 32768.0" if integers else ""
    with pytest.raises(AudioError, match=f"floating point, full scale 1.0, not [a-z0-9]+{hint}$"):
        Separator(oracle()).separate(np.zeros((2, 100), kind), RATE)
    half = torch.from_numpy(song(100)).to(torch.bfloat16)
    assert Separator(oracle()).separate(half, RATE)["vocals"].dtype == torch.float32


def test_a_gain_is_the_same_for_both_stems(oracle, tmp_path):
    write_audio(tmp_path / "a.wav", song(900), RATE)
    paths = Separator(oracle(0.7)).separate_file(tmp_path / "a.wav", tmp_path, gain=-6.0)
    total = sum(read_audio(path)[0] for path in paths.values())
    np.testing.assert_allclose(total, song(900) * np.float32(10**-0.3), atol=1e-6)
