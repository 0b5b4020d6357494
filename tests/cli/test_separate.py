import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from solovox import stems
from solovox.audio import read_audio, write_audio
from solovox.cli import main
from solovox.cli import separate as command
from solovox.separator import STEMS, Separator

RATE = 8000


def tone(seconds=0.3, rate=RATE, channels=2):
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * 440 * time + np.arange(channels)[:, None])).astype(np.float32)


@pytest.fixture
def run(oracle, monkeypatch, tmp_path):
    """Run `solovox separate` in a folder of its own, with a model that halves its input."""
    monkeypatch.setattr("solovox.separator.load_model", lambda name: oracle())
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, ["separate", *map(str, words)])


def files(folder="separated"):
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


def one_line_each(result, count):
    lines = result.stderr.splitlines()
    assert len(lines) == count, result.stderr
    assert "Traceback" not in result.output
    return lines


def test_a_song(run, oracle):
    write_audio("song.wav", tone(), RATE)
    result = run("song.wav")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "separated/oracle/song/vocals.wav",
        "separated/oracle/song/accompaniment.wav",
    ]
    expected = Separator(oracle()).separate(tone(), RATE)
    for stem in STEMS:
        audio, rate = read_audio(f"separated/oracle/song/{stem}.wav")
        assert rate == RATE
        np.testing.assert_array_equal(audio, expected[stem])


def test_flags_that_others_have_too(run):
    write_audio("song.wav", tone(), RATE)
    result = run(
        "-n", "any", "-o", "out", "-d", "cpu", "--two-stems", "vocals", "--flac", "--int24",
        "-j", 1, "--filename", "{track} - {stem}.{ext}", "song.wav",
    )  # fmt: skip
    assert result.exit_code == 0
    assert files("out") == ["oracle/song - accompaniment.flac", "oracle/song - vocals.flac"]
    assert soundfile.info("out/oracle/song - vocals.flac").subtype == "PCM_24"


def test_options_of_others_are_noted_and_change_nothing(run):
    write_audio("song.wav", tone(), RATE)
    habits = ("--segment", 7, "--overlap", 0.25, "--shifts", 2, "--clip-mode", "rescale")
    coding = ("--mp3-bitrate", 256, "--mp3-preset", 2)
    result = run(*habits, *coding, "song.wav")
    assert result.exit_code == 0
    lines = one_line_each(result, len(command.HABITS))
    assert sorted(line.split()[1] for line in lines) == sorted(command.HABITS)
    assert all(line.startswith("Note: --") for line in lines)
    before = Path("separated/oracle/song/vocals.wav").read_bytes()
    quiet = run("-q", *habits, *coding, "song.wav")
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert Path("separated/oracle/song/vocals.wav").read_bytes() == before
    assert not any(name in run("--help").output for name in command.HABITS)


@pytest.mark.parametrize("words", [["--list-models"], ["--list-models", "song.wav"]])
def test_a_list_of_models_has_a_command_of_its_own(run, words):
    result = run(*words)
    assert result.exit_code == 1
    assert one_line_each(result, 1) == ["Error: `solovox models` lists the models"]


def test_verbose_says_what_is_used(run):
    write_audio("song.wav", tone(), RATE)
    assert run("song.wav").stderr == ""
    assert "oracle on cpu: steps" in one_line_each(run("-v", "-d", "cpu", "song.wav"), 1)[0]


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg"])
def test_formats(run, kind):
    write_audio("song.wav", tone(1.0, 44100), 44100)
    assert run("song.wav", f"--{kind}", "--stem", "vocals").exit_code == 0
    assert files() == [f"oracle/song/vocals.{kind}"]
    audio, rate = read_audio(f"separated/oracle/song/vocals.{kind}")
    assert (audio.shape, rate) == ((2, 44100), 44100)


def test_settings_reach_the_separator(run, monkeypatch):
    seen = {}
    write_audio("song.wav", tone(), RATE)
    real = Separator.__init__

    def spy(self, **settings):
        seen.update(settings)
        real(self, **settings)

    monkeypatch.setattr(Separator, "__init__", spy)
    result = run(
        "song.wav", "--steps", 3, "--start", 0.5, "--eta", 0.1, "--cutoff", 900, "--seed", 7,
        "--stems", "wiener", "--batch-size", 2, "--precision", "fp32", "--sampler", "ddim",
        "--spacing", "cosine", "--takes", 2, "--quality", "best", "--uncertainty",
    )  # fmt: skip
    assert result.exit_code == 0
    assert seen == {
        "model": "diff-dmx-small", "device": "auto", "steps": 3, "start": 0.5, "eta": 0.1,
        "cutoff": 900.0, "seed": 7, "stems": "wiener", "batch_size": 2, "precision": "fp32",
        "sampler": "ddim", "spacing": "cosine", "takes": 2, "quality": "best",
        "backend": "torch",
    }  # fmt: skip
    assert "oracle/song/uncertainty.npz" in files()


def test_choices_are_those_of_the_package():
    assert list(command.RULES) == list(stems.RULES)
    assert command.STEMS == STEMS


def test_a_setting_out_of_range_is_one_line(run):
    write_audio("song.wav", tone(), RATE)
    result = run("song.wav", "--eta", 3)
    assert result.exit_code == 1
    assert one_line_each(result, 1) == ["Error: eta must be 0 to 1, not 3.0"]


def test_folders_keep_their_structure(run):
    for name in ("album/1.wav", "album/b/1.flac", "album/b/.hidden.wav", "album/notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("text") if name.endswith("txt") else write_audio(name, tone(), RATE)
    assert run("album").exit_code == 0
    assert files() == [f"oracle/{t}/{s}.wav" for t in ("1", "b/1") for s in sorted(STEMS)]


def test_output_within_the_input_is_no_input(run):
    write_audio("song.wav", tone(), RATE)
    assert run(".").exit_code == 0
    once = files()
    assert run(".").exit_code == 0
    assert files() == once


def test_equal_names_do_not_overwrite_each_other(run):
    for number, name in enumerate(("a/song.wav", "b/song.wav", "b/Song.flac")):
        Path(name).parent.mkdir(exist_ok=True)
        write_audio(name, tone(0.1 * (number + 1)), RATE)
    result = run("a/song.wav", "b/song.wav", "b/Song.flac", "a/../a/song.wav", "--stem", "vocals")
    assert result.exit_code == 0
    notes = one_line_each(result, 2)
    assert notes[0] == "Note: b/song.wav: becomes 'song (2)', for 'song' is taken"
    tracks = ["Song (3)", "song (2)", "song"]
    assert files() == [f"oracle/{track}/vocals.wav" for track in tracks]
    lengths = [read_audio(f"separated/oracle/{t}/vocals.wav")[0].shape[1] for t in tracks]
    assert lengths == [2400, 1600, 800]


@pytest.mark.parametrize(
    ("template", "says"), [("{stem}.wav", "{track}"), ("{track}.wav", "{stem}")]
)
def test_a_template_that_would_overwrite_is_refused(run, template, says):
    write_audio("a.wav", tone(), RATE)
    write_audio("b.wav", tone(), RATE)
    result = run("a.wav", "b.wav", "--filename", template)
    assert result.exit_code == 1
    assert says in one_line_each(result, 1)[0]
    assert not Path("separated").exists()


def test_bad_inputs_are_one_line_each_and_the_others_are_done(run):
    write_audio("good.wav", tone(), RATE)
    Path("nothing").mkdir()
    Path("empty.wav").touch()
    Path("text.wav").write_text("this is no sound at all\n" * 50)
    write_audio("long.flac", tone(3.0), RATE)
    Path("cut.flac").write_bytes(Path("long.flac").read_bytes()[:-5000])
    nan = tone(30.0)
    nan[0, 200_000] = np.nan
    soundfile.write("nan.wav", nan.T, RATE, "FLOAT")
    soundfile.write("six.wav", np.zeros((100, 6)), RATE)
    bad = ["missing.wav", "nothing", "empty.wav", "text.wav", "cut.flac", "nan.wav", "six.wav"]
    result = run(*bad[:4], "good.wav", *bad[4:])
    assert result.exit_code == 1
    lines = one_line_each(result, len(bad) + 1)
    for name in bad:
        assert sum(line.startswith(f"Error: {name}") for line in lines) == 1
    assert lines[-1] == "Error: 7 of 8 failed"
    assert files() == [f"oracle/good/{stem}.wav" for stem in sorted(STEMS)]
    assert [folder.name for folder in Path("separated/oracle").iterdir()] == ["good"]


def test_an_unwritable_output_is_one_line(run):
    write_audio("a.wav", tone(), RATE)
    write_audio("b.wav", tone(), RATE)
    Path("separated/oracle").mkdir(parents=True)
    Path("separated/oracle/a").write_text("in the way")
    result = run("a.wav", "b.wav")
    assert result.exit_code == 1
    assert "separated/oracle/a" in one_line_each(result, 2)[0]
    assert files() == ["oracle/a", "oracle/b/accompaniment.wav", "oracle/b/vocals.wav"]


def test_a_defect_of_ours_does_not_stop_the_batch(run, monkeypatch):
    real = Separator.separate_file

    def fail(self, path, *args, **settings):
        if path.name == "a.wav":
            raise ZeroDivisionError("oh\nno")
        return real(self, path, *args, **settings)

    monkeypatch.setattr(Separator, "separate_file", fail)
    write_audio("a.wav", tone(), RATE)
    write_audio("b.wav", tone(), RATE)
    result = run("a.wav", "b.wav")
    assert result.exit_code == 1
    assert one_line_each(result, 2)[0] == "Error: a.wav: unexpected ZeroDivisionError: oh"
    assert "b/vocals.wav" in result.stdout


def test_names_in_any_script(run):
    write_audio("Şarkı 歌 [live].wav", tone(), RATE)
    assert run("Şarkı 歌 [live].wav").exit_code == 0
    assert "oracle/Şarkı 歌 [live]/vocals.wav" in files()


def test_quiet_prints_nothing(run):
    write_audio("song.wav", tone(), RATE)
    result = run("song.wav", "-q")
    assert (result.exit_code, result.output) == (0, "")


def test_a_model_that_is_not_there_is_one_line():
    result = CliRunner().invoke(main, ["separate", "-n", "nobody", __file__])
    assert result.exit_code == 1
    assert "nobody" in one_line_each(result, 1)[0]


# Pipes and signals


def test_a_pipe_gives_what_a_file_gives(run):
    write_audio("song.wav", tone(1.0, 11025), 11025)
    assert run("song.wav", "--int16", "--stem", "accompaniment").exit_code == 0
    words = ["separate", "-", "--int16", "--stem", "accompaniment"]
    result = CliRunner().invoke(main, words, input=Path("song.wav").read_bytes())
    assert (result.exit_code, result.stderr) == (0, "")
    Path("piped.wav").write_bytes(result.stdout_bytes)
    piped, rate = read_audio("piped.wav")
    assert rate == 11025
    np.testing.assert_array_equal(piped, read_audio("separated/oracle/song/accompaniment.wav")[0])


def test_clipping_in_a_pipe_is_told(run):
    write_audio("song.wav", 8 * tone(0.2), RATE)
    words = ["separate", "-", "--int16"]
    result = CliRunner().invoke(main, words, input=Path("song.wav").read_bytes())
    assert result.exit_code == 0
    assert "samples were clipped" in one_line_each(result, 1)[0]
    assert "gain of -6.1 dB" in result.stderr


def test_an_empty_name_is_not_the_folder_at_hand(run):
    write_audio("song.wav", tone(), RATE)
    result = run("")
    assert result.exit_code == 1
    assert "names no song" in one_line_each(result, 1)[0]
    assert not Path("separated").exists()


@pytest.mark.parametrize("words", [["--gain", "nan"], ["--gain", "1e9"], ["--steps", "999999999"]])
def test_absurd_numbers_are_one_line(run, words):
    write_audio("song.wav", tone(), RATE)
    for inputs in (["song.wav"], ["-"]):
        result = CliRunner().invoke(main, ["separate", *inputs, *words], input=b"")
        assert result.exit_code == 1
        one_line_each(result, 1)


@pytest.mark.parametrize("words", [["--resume"], ["--flac"], ["-o", "x"], ["--filename", "x.wav"]])
def test_a_pipe_has_no_files(run, words):
    assert run("-", *words).exit_code == 2


def test_songs_in_the_output_folder_are_told_of(run):
    Path("songs").mkdir()
    write_audio("songs/song.wav", tone(), RATE)
    result = run("songs", "-o", ".")
    assert result.exit_code == 1
    assert "lies in the output folder" in one_line_each(result, 1)[0]


def test_a_pipe_without_sound_is_one_line(run):
    result = CliRunner().invoke(main, ["separate", "-"], input=b"no sound")
    assert (result.exit_code, result.stdout) == (1, "")
    one_line_each(result, 1)


def test_a_pipe_that_nobody_reads_is_one_line(run, monkeypatch, capsys):
    write_audio("song.wav", tone(60.0), RATE)
    reader, writer = os.pipe()
    os.close(reader)
    with Path("song.wav").open() as song, os.fdopen(writer, "w") as nobody:
        monkeypatch.setattr(sys, "stdin", song)
        monkeypatch.setattr(sys, "stdout", nobody)
        with pytest.raises(SystemExit, match="1"):
            main(["separate", "-"])
    told = capsys.readouterr().err
    assert told.startswith("Error: ")
    assert told.count("\n") == 1


def test_a_pipe_goes_alone(run):
    assert run("-", "song.wav").exit_code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_finished_songs_and_nothing_else(run, oracle, monkeypatch, number):
    calls = []

    def formula(x_t, mixture):
        calls.append(list(Path().rglob("*.part")))
        if len(calls) == 30:
            os.kill(os.getpid(), number)
        return 0.5 * mixture

    handler = signal.getsignal(number)
    monkeypatch.setattr("solovox.separator.load_model", lambda name: oracle(formula=formula))
    write_audio("a.wav", tone(0.3), RATE)
    write_audio("b.wav", tone(5.0), RATE)
    result = run("a.wav", "b.wav")
    assert result.exit_code == 128 + number
    assert result.stderr == ""
    assert len(calls) == 30
    assert len(calls[-1]) == 2  # it was in the middle of the second song
    assert files() == [f"oracle/a/{stem}.wav" for stem in sorted(STEMS)]
    assert not Path("separated/oracle/b").exists()
    assert signal.getsignal(number) is handler


def test_a_signal_between_songs_stops_at_once(run, monkeypatch):
    real = Separator.separate_file

    def kill_after(self, *args, **settings):
        paths = real(self, *args, **settings)
        os.kill(os.getpid(), signal.SIGTERM)
        return paths

    monkeypatch.setattr(Separator, "separate_file", kill_after)
    write_audio("a.wav", tone(), RATE)
    write_audio("b.wav", tone(), RATE)
    assert run("a.wav", "b.wav").exit_code == 143
    assert files() == [f"oracle/a/{stem}.wav" for stem in sorted(STEMS)]


# The group itself


def test_version_is_quick():
    code = (
        "import sys, time\nstart = time.process_time()\n"
        "from solovox.cli import main\n"
        "main(['--version'], standalone_mode=False)\n"
        "print(time.process_time() - start, 'torch' in sys.modules or 'numpy' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, measured = out.stdout.splitlines()
    seconds, heavy = measured.split()
    assert ", version " in version
    assert float(seconds) < 0.2
    assert heavy == "False"


def test_the_package_runs_as_a_module():
    words = [sys.executable, "-m", "solovox", "--version"]
    out = subprocess.run(words, capture_output=True, text=True, check=True)
    assert out.stdout.startswith("solovox, version ")


def test_every_command_has_a_line_of_help():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name in ("separate", "models"):
        assert f"  {name} " in result.output
    assert CliRunner().invoke(main, ["nonsense"]).exit_code == 2


def test_a_command_whose_packages_are_missing_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.table", None)
    monkeypatch.delitem(sys.modules, "solovox.cli.models", raising=False)
    result = CliRunner().invoke(main, ["models", "--json"])
    assert result.exit_code == 1
    assert "pip install" in one_line_each(result, 1)[0]
    assert CliRunner().invoke(main, ["--help"]).exit_code == 0


def test_models_lists_presets_and_folders():
    result = CliRunner().invoke(main, ["models", "--json"])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.output)}
    assert rows["diff-dmx"]["system"] == "Diff-DMX"
    assert 98e6 < rows["diff-dmx"]["parameters"] < 100e6
    assert "diff-dmx-small" in rows
    missing = CliRunner().invoke(main, ["models", "nobody"])
    assert missing.exit_code == 1
    one_line_each(missing, 1)
