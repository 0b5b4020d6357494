"""Audio in and out: exact lengths, any block size, one clear line for every error."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import struct
import threading
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from solovox import audio as solovox_audio
from solovox.audio import (
    AudioReader,
    AudioWriter,
    FloatArray,
    StreamResampler,
    probe,
    read_audio,
    resampled_length,
    write_audio,
)
from solovox.errors import AudioError


def tones(samples: int, channels: int = 2, rate: int = 44100, seed: int = 0) -> FloatArray:
    """A tone a channel and a little noise, [channels, samples]."""
    time = np.arange(samples) / rate
    pure = np.stack([0.3 * np.sin(2 * np.pi * (330 + 110 * c) * time) for c in range(channels)])
    noise = np.random.default_rng(seed).standard_normal((channels, samples))
    return (pure + 0.03 * noise).astype(np.float32)


def encode(
    path: Path,
    codec: str,
    audio: FloatArray,
    rate: int,
    kind: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write with FFmpeg's encoders, for the formats that solovox only reads."""
    with av.open(str(path), "w", format=kind, options=options or {}) as container:
        stream = container.add_stream(
            codec, rate=rate, layout="stereo" if len(audio) == 2 else "mono"
        )
        formats = stream.codec_context.codec.audio_formats
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(audio), format="fltp", layout=stream.layout.name
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        pieces = av.AudioResampler(
            format=formats[0].name if formats else "fltp",
            layout=stream.layout.name,
            rate=rate,
            frame_size=stream.codec_context.frame_size or None,
        )
        for piece in [*pieces.resample(frame), *pieces.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def error_of(path: Path | io.BytesIO | str, **options: int) -> str:
    """The message of the error that reading must raise: one line that names the file."""
    with pytest.raises(AudioError) as caught, AudioReader(path, **options) as reader:
        for _ in reader.blocks(5000):
            pass
    message = str(caught.value)
    assert "\n" not in message
    assert isinstance(path, io.BytesIO) or message.startswith(f"{path}: ")
    return message


def correlation(a: FloatArray, b: FloatArray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


# --- round trips ---------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("samples", [1, 1151, 50_001])
@pytest.mark.parametrize("rate", [22050, 44100])
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_what_is_written_reads_back_with_its_length_rate_and_channels(
    tmp_path: Path, suffix: str, rate: int, samples: int, channels: int
) -> None:
    path, audio = tmp_path / f"song.{suffix}", tones(samples, channels, rate)
    write_audio(path, audio, rate)
    back, back_rate = read_audio(path)
    assert (back.dtype, back.shape, back_rate) == (np.float32, audio.shape, rate)
    info = probe(path)
    assert (info.frames, info.channels, info.sample_rate) == (samples, channels, rate)
    if suffix in ("wav", "flac"):
        np.testing.assert_allclose(back, audio, atol=2**-24)
    elif samples > 40_000:  # no delay either
        assert correlation(back, audio) > 0.99


FFMPEG_ONLY = [
    ("song.m4a", "aac", 44100, None, {}),
    ("song.m4a", "aac", 44100, None, {"movflags": "faststart"}),
    ("song.m4a", "alac", 44100, None, {}),
    ("song.mp4", "aac", 48000, None, {}),
    ("song.mp4", "libopus", 48000, None, {}),
    ("song.webm", "libopus", 48000, None, {}),
    ("song.opus", "libopus", 48000, "ogg", {}),
    ("song.mkv", "flac", 44100, None, {}),
    ("song.mov", "aac", 44100, None, {}),
    ("song.avi", "pcm_s16le", 44100, None, {}),
    ("song.wv", "wavpack", 44100, None, {}),
    ("song.caf", "pcm_s16be", 44100, None, {}),
    ("song.mp3", "libmp3lame", 44100, None, {}),
    ("song.aiff", "pcm_s16be", 44100, None, {}),
]


@pytest.mark.parametrize("samples", [1200, 50_001])
@pytest.mark.parametrize(("name", "codec", "rate", "kind", "options"), FFMPEG_ONLY)
def test_coders_padding_is_not_sound(
    tmp_path: Path,
    name: str,
    codec: str,
    rate: int,
    kind: str | None,
    options: dict[str, str],
    samples: int,
) -> None:
    audio = tones(samples, 2, rate)
    back, back_rate = read_audio(encode(tmp_path / name, codec, audio, rate, kind, options))
    assert (back.shape, back_rate) == (audio.shape, rate)
    if samples > 40_000:
        assert correlation(back, audio) > 0.97


def test_aac_without_a_container_is_padded_by_less_than_three_frames(tmp_path: Path) -> None:
    back, _ = read_audio(encode(tmp_path / "song.aac", "aac", tones(50_001), 44100, "adts"))
    assert 50_001 <= back.shape[1] < 50_001 + 3 * 1024


@pytest.mark.parametrize(
    ("kind", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 2**-7),
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "PCM_32", 2**-23),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 0),
        ("WAV", "ALAW", 0.03),
        ("WAV", "ULAW", 0.03),
        ("WAV", "IMA_ADPCM", 0.2),
        ("WAVEX", "PCM_24", 2**-23),
        ("RF64", "PCM_16", 2**-15),
        ("W64", "FLOAT", 0),
        ("AIFF", "PCM_S8", 2**-7),
        ("AIFF", "FLOAT", 0),
        ("AU", "PCM_16", 2**-15),
        ("CAF", "PCM_24", 2**-23),
        ("FLAC", "PCM_S8", 2**-7),
    ],
)
def test_sample_kinds(tmp_path: Path, kind: str, subtype: str, tolerance: float) -> None:
    path, audio = tmp_path / "song", tones(5050)
    soundfile.write(path, audio.T, 44100, subtype, format=kind)
    back, rate = read_audio(path)
    assert rate == 44100
    np.testing.assert_allclose(back[:, :5050], audio, atol=tolerance)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f64le"])
def test_sample_kinds_through_ffmpeg(tmp_path: Path, codec: str) -> None:
    audio = tones(5000)
    back, _ = read_audio(encode(tmp_path / "song.mkv", codec, audio, 44100))
    np.testing.assert_allclose(back, audio, atol=2**-7 if codec == "pcm_u8" else 2**-15)


@pytest.mark.parametrize("subtype", ["pcm16", "pcm24"])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_pcm_comes_back_bit_for_bit(tmp_path: Path, suffix: str, subtype: str) -> None:
    steps = 2 ** (int(subtype[3:]) - 1)
    codes = np.random.default_rng(0).integers(-steps, steps, (1, 10_001))  # odd count of odd bytes
    path = tmp_path / f"song.{suffix}"
    write_audio(path, codes / steps, 44100, subtype)
    np.testing.assert_array_equal(read_audio(path)[0] * steps, codes)
    assert soundfile.info(path).subtype == f"PCM_{subtype[3:]}"


def test_pcm_clips_and_counts_and_float_does_not(tmp_path: Path) -> None:
    audio = np.array([[0.5, 1.0, 1.5, -2.0, -1.0]], np.float32)
    with AudioWriter(tmp_path / "a.wav", 44100, 1, "pcm16") as writer:
        writer.write(audio)
    assert (writer.clipped, writer.frames) == (2, 5)
    np.testing.assert_allclose(
        read_audio(tmp_path / "a.wav")[0], [[0.5, 1, 1, -1, -1]], atol=2**-15
    )
    with AudioWriter(tmp_path / "b.wav", 44100, 1) as writer:
        writer.write(audio)
    assert writer.clipped == 0
    np.testing.assert_array_equal(read_audio(tmp_path / "b.wav")[0], audio)


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    for suffix in ("wav", "flac", "mp3"):
        for name in ("a", "b"):
            write_audio(tmp_path / f"{name}.{suffix}", tones(3000), 44100)
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_wav_beyond_the_limit_becomes_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solovox_audio, "WAV_LIMIT", 10_000)
    for samples, kind in ((100, "WAV"), (5000, "RF64")):
        write_audio(tmp_path / "song.wav", tones(samples), 44100)
        with soundfile.SoundFile(tmp_path / "song.wav") as file:
            assert (file.format, file.frames) == (kind, samples)
        np.testing.assert_array_equal(read_audio(tmp_path / "song.wav")[0], tones(samples))


def test_a_wav_of_five_gigabytes(tmp_path: Path) -> None:
    """A sparse file under the header that the writer gives to so many samples."""
    frames, path = 640_000_000, tmp_path / "song.wav"
    with path.open("wb") as file:
        sink = solovox_audio._WavSink(file, 44100, 2, None)
        file.seek(0)
        file.write(sink._header(frames))
        file.truncate(92 + 8 * frames)
        file.seek(92 + 8 * (frames - 1000))
        file.write(tones(1000).T.tobytes())
    assert probe(path).frames == frames
    end, _ = read_audio(path, offset=(frames - 1000) / 44100)
    np.testing.assert_array_equal(end, tones(1000))


@pytest.mark.parametrize("name", ["Привет мир é歌.flac", "a:b.m4a", "-", 'it\'s 100 % "q".ogg'])
def test_any_name_works(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name.endswith("m4a"):
        encode(tmp_path / "plain.m4a", "aac", tones(4000), 44100).rename(name)
    else:
        kind = {"flac": "FLAC", "ogg": "OGG"}.get(name[-4:].strip("."), "WAV")
        with Path(name).open("wb") as file:
            soundfile.write(file, tones(4000).T, 44100, format=kind)
    assert read_audio(name)[0].shape == (2, 4000)


# --- blocks, seeks, memory -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same 7 s in several formats."""
    folder = tmp_path_factory.mktemp("library")
    audio = tones(7 * 44100 + 13)
    for suffix in ("wav", "flac", "mp3", "ogg"):
        write_audio(folder / f"song.{suffix}", audio, 44100)
    encode(folder / "song.m4a", "aac", audio, 44100)
    encode(folder / "song.aac", "aac", audio, 44100, "adts")
    encode(folder / "song.webm", "libopus", tones(7 * 48000), 48000)
    encode(folder / "song.opus", "libopus", tones(7 * 48000), 48000, "ogg")
    return {path.suffix[1:]: path for path in folder.iterdir()}


FORMATS = ["wav", "flac", "mp3", "ogg", "m4a", "aac", "webm", "opus"]


@pytest.mark.parametrize("sample_rate", [None, 32000])
@pytest.mark.parametrize("suffix", FORMATS)
def test_samples_do_not_depend_on_the_block_size(
    library: dict[str, Path], suffix: str, sample_rate: int | None
) -> None:
    whole, _ = read_audio(library[suffix], sample_rate)
    for size in (777, 100_000, 10**7):
        with AudioReader(library[suffix], sample_rate) as reader:
            blocks = list(reader.blocks(size))
            assert reader.frames in (None, whole.shape[1])
            assert reader.seconds is None or abs(reader.seconds - 7) < 0.5
        assert {block.shape[1] for block in blocks[:-1]} <= {size}
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)


@pytest.mark.parametrize("sample_rate", [None, 32000, 44101])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_part_equals_that_part_of_the_whole(
    library: dict[str, Path], suffix: str, sample_rate: int | None
) -> None:
    whole, rate = read_audio(library[suffix], sample_rate)
    for offset, duration in ((0.0, 0.5), (0.01, 0.3), (4.321, 1.5), (6.5, 9.0)):
        part, _ = read_audio(library[suffix], sample_rate, offset, duration)
        start = round(offset * rate)
        expected = whole[:, start : start + round(duration * rate)]
        if sample_rate is None and suffix != "m4a":
            np.testing.assert_array_equal(part, expected)
        else:  # the noise of aac is 0.03 loud here
            atol = 0.1 if suffix == "m4a" else 1e-6 if sample_rate == 32000 else 5e-6
            np.testing.assert_allclose(part, expected, atol=atol)
    with pytest.raises(AudioError, match="ends before 100 s"):
        read_audio(library[suffix], sample_rate, offset=100)


def test_a_part_of_a_long_file_is_found_without_decoding_it_all(library: dict[str, Path]) -> None:
    for suffix in ("wav", "flac", "mp3", "ogg", "m4a"):
        with AudioReader(library[suffix]) as reader:
            reader.seek(6 * 44100, exact=False)
            assert reader._position >= 3.9 * 44100


@pytest.mark.parametrize("sample_rate", [None, 32000])
@pytest.mark.parametrize("suffix", FORMATS)
def test_an_exact_seek_gives_the_same_bits(
    library: dict[str, Path], suffix: str, sample_rate: int | None
) -> None:
    whole, rate = read_audio(library[suffix], sample_rate)
    for start in (1, 4 * rate + 321, whole.shape[1] - 1):
        with AudioReader(library[suffix], sample_rate) as reader:
            reader.seek(start)
            rest = np.concatenate(list(reader.blocks(50_000)), axis=1)
        np.testing.assert_array_equal(rest, whole[:, start:])


def test_seek_goes_back_too(library: dict[str, Path]) -> None:
    with AudioReader(library["mp3"]) as reader:
        first = next(iter(reader.blocks(1000)))
        reader.seek(200_000)
        next(iter(reader.blocks(1000)))
        reader.seek(0)
        np.testing.assert_array_equal(next(iter(reader.blocks(1000))), first)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "m4a"])
def test_memory_does_not_grow_with_length(tmp_path: Path, suffix: str) -> None:
    peaks = []
    for seconds in (3, 30):
        path = tmp_path / f"song.{suffix}"
        out = path if suffix != "m4a" else tmp_path / "out.wav"
        if suffix == "m4a":
            encode(path, "aac", tones(seconds * 8000, 1, 8000), 8000)
        else:
            write_audio(path, tones(seconds * 8000, 1, 8000), 8000)
        tracemalloc.start()
        with AudioReader(path, 11025) as reader, AudioWriter(out, 11025, 1) as writer:
            for block in reader.blocks(4096):
                writer.write(block)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 2**20


# --- resampling ----------------------------------------------------------------------------------

rates = st.sampled_from([8000, 11025, 22050, 32000, 44100, 44101, 48000, 96000, 192000])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30_000), rates, rates, st.integers(1, 2), st.lists(st.integers(0, 9000)))
def test_streamed_resampling_equals_offline_and_has_the_exact_length(
    samples: int, rate_in: int, rate_out: int, channels: int, cuts: list[int]
) -> None:
    audio = tones(samples, channels, rate_in)
    resampler, out, start = StreamResampler(rate_in, rate_out, channels), [], 0
    for cut in cuts:
        out.append(resampler.process(audio[:, start : start + cut]))
        start += cut
    out.append(resampler.process(audio[:, start:], last=True))
    streamed = np.concatenate(out, axis=1)
    assert streamed.shape == (channels, resampled_length(samples, rate_in, rate_out))
    offline = soxr.resample(audio.T, rate_in, rate_out, "VHQ").T if rate_in != rate_out else audio
    both = min(streamed.shape[1], offline.shape[1])
    assert abs(streamed.shape[1] - offline.shape[1]) <= 1
    np.testing.assert_allclose(streamed[:, :both], offline[:, :both], atol=1e-6)


def test_length_is_the_nearest_integer_with_ties_up() -> None:
    assert resampled_length(3, 2000, 1000) == 2
    assert resampled_length(10 * 3600 * 44100, 44100, 48000) == 10 * 3600 * 48000
    assert [resampled_length(n, 96000, 8000) for n in (0, 1, 17, 18)] == [0, 1, 1, 2]


def test_resampling_neither_delays_nor_drifts() -> None:
    seconds, rate_in, rate_out = 60, 44100, 48000
    audio = tones(seconds * rate_in, 1, rate_in) * 0
    at = np.arange(1, seconds) * rate_in
    audio[0, at] = 1.0
    out = StreamResampler(rate_in, rate_out, 1).process(audio, last=True)
    peaks = [
        int(np.argmax(out[0, k * rate_out - 500 : k * rate_out + 500])) for k in range(1, seconds)
    ]
    assert set(peaks) == {500}


# --- pipes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "aac", "webm", "opus"])
def test_reads_a_pipe(library: dict[str, Path], suffix: str) -> None:
    whole, _ = read_audio(library[suffix])
    out, into = os.pipe()

    def feed() -> None:
        with os.fdopen(into, "wb") as pipe:
            pipe.write(library[suffix].read_bytes())

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(out, "rb") as pipe, AudioReader(pipe) as reader:
        streamed = np.concatenate(list(reader.blocks(3000)), axis=1)
        with pytest.raises(AudioError, match="cannot be read twice"):
            reader.seek(0)
    thread.join()
    extra = streamed.shape[1] - whole.shape[1]
    assert 0 <= extra < 1152 if suffix == "mp3" else extra == 0  # a pipe hides the last padding
    # Files of Ogg go to another decoder.
    atol = 1e-6 if suffix in ("ogg", "opus") else 0
    np.testing.assert_allclose(streamed[:, : whole.shape[1]], whole, rtol=0, atol=atol)


def test_reads_a_named_pipe(library: dict[str, Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    feed = threading.Thread(
        target=lambda: (tmp_path / "pipe").write_bytes(library["flac"].read_bytes())
    )
    feed.start()
    audio, _ = read_audio(tmp_path / "pipe")
    feed.join()
    np.testing.assert_array_equal(audio, read_audio(library["flac"])[0])


def test_reads_an_open_file(library: dict[str, Path]) -> None:
    for suffix in FORMATS:
        with library[suffix].open("rb") as file:
            np.testing.assert_array_equal(read_audio(file)[0], read_audio(library[suffix])[0])
            assert not file.closed


def test_writes_a_pipe_that_every_reader_understands(tmp_path: Path) -> None:
    audio = tones(30_000)
    out, into = os.pipe()
    with os.fdopen(into, "wb") as pipe:
        thread = threading.Thread(target=lambda: write_audio(pipe, audio, 44100) or pipe.close())
        thread.start()
        with os.fdopen(out, "rb") as end:
            streamed = end.read()
        thread.join()
    assert struct.unpack("<I", streamed[-audio.nbytes - 4 : -audio.nbytes]) == (0xFFFFFFFF,)
    (tmp_path / "saved.wav").write_bytes(streamed)
    np.testing.assert_array_equal(read_audio(tmp_path / "saved.wav")[0], audio)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "saved.wav")[0].T, audio)
    with av.open(str(tmp_path / "saved.wav")) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == 30_000


def test_a_reader_that_goes_away_is_one_line() -> None:
    out, into = os.pipe()
    os.close(out)
    pipe = os.fdopen(into, "wb", buffering=0)
    with pytest.raises(AudioError, match=r"cannot be written \(Broken pipe\)"):
        write_audio(pipe, tones(100_000), 44100)
    pipe.close()


# --- errors --------------------------------------------------------------------------------------


def test_files_that_are_not_there_or_not_audio(tmp_path: Path) -> None:
    assert "no such file" in error_of(tmp_path / "missing.wav")
    assert "folder" in error_of(tmp_path)
    (tmp_path / "empty.mp3").write_bytes(b"")
    assert "empty" in error_of(tmp_path / "empty.mp3")
    assert "neither a file nor a pipe" in error_of("/dev/null")
    for name in ("notes.wav", "notes.mp3", "notes.flac"):
        (tmp_path / name).write_text("These are words.\n" * 1000)
        assert "is not audio" in error_of(tmp_path / name)
    (tmp_path / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(100_000))
    assert "is not audio" in error_of(tmp_path / "noise.mp3")
    with pytest.raises(AudioError, match="cannot be opened"):
        probe("a\0b.wav")
    with pytest.raises(AudioError, match=r"^two\\nlines.wav: no such file"):
        probe("two\nlines.wav")


def test_a_play_list_opens_no_other_file(tmp_path: Path) -> None:
    write_audio(tmp_path / "song.mp3", tones(5000), 44100)
    for text in ("#EXTM3U\n#EXTINF:1,\nsong.mp3\n", "ffconcat version 1.0\nfile song.mp3\n"):
        (tmp_path / "list.wav").write_text(text)
        assert "is not audio" in error_of(tmp_path / "list.wav")


def test_a_picture_without_sound(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        picture = np.zeros((64, 64, 3), np.uint8)
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    assert "no audio track" in error_of(tmp_path / "film.mp4")


@pytest.mark.parametrize("part", [0.98, 0.6, 0.1])
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus", "webm", "m4a"])
def test_files_cut_short(
    library: dict[str, Path], tmp_path: Path, suffix: str, part: float
) -> None:
    data = library[suffix].read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(data[: int(len(data) * part)])
    message = error_of(path)
    # The index of an m4a comes last: without it nothing tells that this was audio.
    assert ("cut short" if suffix == "m4a" else "ends early") in message


@pytest.mark.parametrize("kind", ["AIFF", "RF64", "W64", "AU", "CAF"])
def test_rarer_files_cut_short(tmp_path: Path, kind: str) -> None:
    soundfile.write(tmp_path / "cut", tones(44100).T, 44100, format=kind)
    data = (tmp_path / "cut").read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    assert "is damaged" in error_of(tmp_path / "cut")


def test_avi_cut_short_and_avi_of_unknown_length(tmp_path: Path) -> None:
    path = encode(tmp_path / "cut.avi", "pcm_s16le", tones(44100), 44100)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    assert "of 1.00 s can be read" in error_of(path)
    at = whole.index(b"strh") + 8 + 32  # dwLength; FFmpeg states this in a pipe
    assert int.from_bytes(whole[at : at + 4], "little") == 44100
    path.write_bytes(whole[:at] + (1 << 30).to_bytes(4, "little") + whole[at + 4 :])
    assert read_audio(path)[0].shape == (2, 44100)


def test_mp4_with_its_index_first_cut_short(tmp_path: Path) -> None:
    path = encode(
        tmp_path / "cut.m4a", "aac", tones(90_000), 44100, None, {"movflags": "faststart"}
    )
    path.write_bytes(path.read_bytes()[:-6000])
    assert "of 2.04 s can be read" in error_of(path)


def test_headers_of_unknown_length_are_no_error(tmp_path: Path) -> None:
    audio = tones(20_000)
    for size in (0, 0x7FFFF000, 0xFFFFFFFF):
        path = tmp_path / "song.wav"
        write_audio(path, audio, 44100)
        data = bytearray(path.read_bytes())
        data[88:92] = struct.pack("<I", size)
        path.write_bytes(data)
        np.testing.assert_array_equal(read_audio(path)[0], audio)
    write_audio(tmp_path / "song.flac", audio, 44100)
    data = bytearray((tmp_path / "song.flac").read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])  # STREAMINFO's count of samples
    (tmp_path / "song.flac").write_bytes(data)
    assert probe(tmp_path / "song.flac").frames is None
    assert read_audio(tmp_path / "song.flac")[0].shape == audio.shape


def test_chained_files_are_read_to_their_end(tmp_path: Path) -> None:
    for suffix in ("ogg", "mp3"):
        write_audio(tmp_path / f"a.{suffix}", tones(30_000), 44100)
        write_audio(tmp_path / f"b.{suffix}", tones(20_000), 44100)
        both = (tmp_path / f"a.{suffix}").read_bytes() + (tmp_path / f"b.{suffix}").read_bytes()
        (tmp_path / f"ab.{suffix}").write_bytes(both)
        assert 50_000 <= read_audio(tmp_path / f"ab.{suffix}")[0].shape[1] < 56_000


def test_tags_around_an_mp3_are_not_sound(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    write_audio(path, tones(44100), 44100)
    data, picture = path.read_bytes(), np.random.default_rng(0).bytes(20_000)
    id3v1 = b"TAG" + b"a" * 125
    id3v2 = b"ID3\3\0\0\0\1\x1c\x2a" + b"APIC" + struct.pack(">IH", 20_000, 0) + picture
    lyrics = b"LYRICSBEGININD00002" + b"x" * 300 + b"000319LYRICS200"
    for tagged in (data + id3v1, id3v2 + data, data + lyrics + id3v1):
        path.write_bytes(tagged)
        assert read_audio(path)[0].shape == (2, 44100)
    path.write_bytes(data[:9000] + bytes(4000) + data[13_000:])
    assert "ends early or is damaged" in error_of(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_numbers(tmp_path: Path, bad: float) -> None:
    audio = tones(44100)
    audio[1, 30_000] = bad
    encode(tmp_path / "song.mkv", "pcm_f32le", audio, 44100)
    assert "NaN" in error_of(tmp_path / "song.mkv")
    soundfile.write(tmp_path / "song.wav", audio.T, 44100, "FLOAT")
    assert "NaN" in error_of(tmp_path / "song.wav")
    soundfile.write(tmp_path / "song.wav", audio.astype(np.float64).T, 44100, "DOUBLE")
    assert "NaN" in error_of(tmp_path / "song.wav", sample_rate=48000)


def test_no_samples_too_many_channels_absurd_rates(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, np.zeros((0, 2)), 44100)
    assert "without samples" in error_of(path)
    for channels in (3, 6, 200):
        soundfile.write(path, np.zeros((100, channels)), 44100)
        assert f"has {channels} channels; solovox takes mono or stereo" in error_of(path)
    encode(tmp_path / "tiny.m4a", "aac", tones(1), 44100)
    assert "without samples" in error_of(tmp_path / "tiny.m4a")
    for rate in (1, 999, 768_001, 2**31 - 1):
        soundfile.write(path, np.zeros((100, 2)), rate)
        assert f"{rate} Hz is out of range" in error_of(path)
    soundfile.write(path, np.zeros((100, 2)), 44100)
    assert "cannot work at 1 Hz" in error_of(path, sample_rate=1)
    assert "has 6 channels" in error_of(encode_surround(tmp_path / "song.m4a"))


def test_a_codec_that_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, tones(1000).T, 44100, "DOUBLE")
    data = path.read_bytes()
    path.write_bytes(data[:20] + b"\1" + data[21:])  # 64 bits, but now integers
    assert "codec is not known" in error_of(path)


def encode_surround(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="5.1")
        frame = av.AudioFrame.from_ndarray(np.zeros((6, 1024), np.float32), "fltp", "5.1")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_channels_that_change_midway_are_folded(tmp_path: Path) -> None:
    mono = encode(tmp_path / "a.aac", "aac", tones(44100, 1), 44100, "adts")
    stereo = encode(tmp_path / "b.aac", "aac", tones(44100, 2), 44100, "adts")
    (tmp_path / "ab.aac").write_bytes(mono.read_bytes() + stereo.read_bytes())
    (tmp_path / "ba.aac").write_bytes(stereo.read_bytes() + mono.read_bytes())
    total = sum(read_audio(path)[0].shape[1] for path in (mono, stereo))
    assert read_audio(tmp_path / "ab.aac")[0].shape == (1, total)
    assert read_audio(tmp_path / "ba.aac")[0].shape == (2, total)


def test_rates_that_change_midway_are_refused(tmp_path: Path) -> None:
    a = encode(tmp_path / "a.aac", "aac", tones(44100), 44100, "adts")
    b = encode(tmp_path / "b.aac", "aac", tones(44100), 48000, "adts")
    (tmp_path / "ab.aac").write_bytes(a.read_bytes() + b.read_bytes())
    assert "changes from 44100 to 48000 Hz" in error_of(tmp_path / "ab.aac")


def test_nothing_is_printed(
    library: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for suffix, path in library.items():
        data = path.read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(data[: len(data) // 2] + data[-1000:])
        with contextlib.suppress(AudioError):
            read_audio(tmp_path / f"cut.{suffix}")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"song.{suffix}"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), AudioWriter(path, 44100, 2) as writer:
        writer.write(tones(5000))
        assert path.read_bytes() == b"before"
        raise KeyboardInterrupt
    with pytest.raises(AudioError, match="NaN"), AudioWriter(path, 44100, 2) as writer:
        writer.write(tones(10) * np.nan)
    with pytest.raises(AudioError, match="cannot take"), AudioWriter(path, 44100, 2) as writer:
        writer.write(tones(10, 1))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"before"


def test_abort_leaves_nothing(tmp_path: Path) -> None:
    writer = AudioWriter(tmp_path / "song.flac", 44100, 2)
    writer.write(tones(100))
    writer.abort()
    writer.close()
    assert not list(tmp_path.iterdir())


def test_places_and_formats_that_cannot_be_written(tmp_path: Path) -> None:
    def error(*arguments: object) -> str:
        with pytest.raises(AudioError) as caught:
            write_audio(*arguments)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(arguments[0]))
        return str(caught.value)

    audio = tones(100)
    assert "No such file or directory" in error(tmp_path / "no" / "song.wav", audio, 44100)
    (tmp_path / "file").write_bytes(b"")
    assert "Not a directory" in error(tmp_path / "file" / "song.wav", audio, 44100)
    (tmp_path / "folder.wav").mkdir()
    assert "is a folder" in error(tmp_path / "folder.wav", audio, 44100)
    assert "unknown output format" in error(tmp_path / "song.xyz", audio, 44100)
    assert "flac holds no float" in error(tmp_path / "song.flac", audio, 44100, "float")
    assert "wav holds no pcm8" in error(tmp_path / "song.wav", audio, 44100, "pcm8")
    assert "mp3 cannot hold 96000 Hz" in error(tmp_path / "song.mp3", audio, 96000)
    assert "3 channels" in error(tmp_path / "song.wav", tones(100, 3), 44100)
    assert "cannot work at 5 Hz" in error(tmp_path / "song.wav", audio, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.wav"]


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_a_full_disk_is_one_line(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    try:
        with pytest.raises(AudioError, match=r"cannot be written \(File too large\)"):
            write_audio(tmp_path / f"song.{suffix}", tones(100_000), 44100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""
