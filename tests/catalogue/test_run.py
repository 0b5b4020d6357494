"""Real runs, in this process or with workers as processes."""

import io
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from solovox import Separator, read_audio
from solovox.catalogue.driver import Limits, Report
from solovox.catalogue.run import separate_catalogue
from solovox.catalogue.settings import Settings
from solovox.cli import main
from solovox.errors import SolovoxError


def files(folder: Path) -> dict[str, bytes]:
    """What must be equal: stems and manifest."""
    found = [*folder.glob("stems/**/*"), folder / "manifest.parquet"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found if p.is_file()}


def run(songs, out, tiny, **options):
    options = {"engine": "inline", "device": "cpu", "model": tiny} | options
    return separate_catalogue(str(songs), str(out), **options)


def test_stems_are_those_of_the_separator(songs, tiny, tmp_path):
    report = run(songs, tmp_path / "out", tiny, settings=Settings(seed=3, shards=2))
    assert (report.songs, report.done, report.aside) == (6, 6, [])
    rows = pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()
    assert [row["path"] for row in rows] == sorted(
        f"album {n % 5}/song {n:03d}.wav" for n in range(6)
    )
    separator = Separator(tiny, "cpu", seed=3)
    for row in rows[:2]:
        mixture, rate = read_audio(songs / row["path"])
        expected = separator.separate(mixture, rate)
        for stem, audio in expected.items():
            written, _ = read_audio(tmp_path / "out" / row[f"{stem}_path"])
            np.testing.assert_array_equal(written, audio)
            assert row[f"{stem}_peak_db"] == pytest.approx(
                20 * np.log10(np.abs(audio).max()), abs=1e-3
            )
        assert row["seconds"] == pytest.approx(mixture.shape[1] / rate)
        assert (row["seed"], row["status"], row["channels"]) == (3, "done", 2)


def test_stems_are_made_by_the_model_s_own_rule(songs, tiny, tmp_path):
    config = json.loads((Path(tiny) / "config.json").read_text())
    other = shutil.copytree(tiny, tmp_path / "model")
    (other / "config.json").write_text(json.dumps(config | {"stems": "wiener"}))
    run(songs, tmp_path / "out", str(other))
    begun = json.loads((tmp_path / "out" / "catalogue.json").read_text())["settings"]
    assert (begun["stems"], begun["spacing"], begun["takes"]) == ("wiener", "uniform", 1)


def test_memory_gives_what_a_disk_gives(songs, tiny, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(str(songs), "/songs", recursive=True)
    run(songs, tmp_path / "out", tiny)
    report = run("memory://songs", "memory://out", tiny)
    assert report.done == 6
    for name, content in files(tmp_path / "out").items():
        assert memory.cat_file(f"/out/{name}") == content
    assert run("memory://songs", "memory://out", tiny).before == 6
    for place in ("/songs", "/out"):
        memory.rm(place, recursive=True)


def test_a_run_goes_on_where_another_stopped(songs, tiny, tmp_path):
    run(songs, tmp_path / "whole", tiny)
    out = tmp_path / "out"
    for more in (2, 4):
        reports: list[Report] = []

        def stop(more=more, reports=reports):
            return bool(reports) and reports[-1].before + reports[-1].done >= more

        report = run(songs, out, tiny, stop=stop, tell=reports.append)
        assert report.stopped == "stopped"
        assert not (out / ".scratch").exists()
        assert not (out / "manifest.parquet").exists()
    report = run(songs, out, None)
    assert (report.before, report.done) == (4, 2)
    assert files(out) == files(tmp_path / "whole")


def test_output_within_the_input_is_no_input(songs, tiny, tmp_path):
    for _ in range(2):
        assert run(songs, songs / "out", tiny).songs == 6
    assert run(songs, tmp_path / "other", tiny).songs == 6
    with pytest.raises(SolovoxError, match="is the input too"):
        run(songs, songs, tiny)


def test_songs_that_cannot_be_read(songs, tiny, tmp_path):
    (songs / "text.mp3").write_text("no sound\n" * 500)
    (songs / "empty.flac").touch()
    report = run(songs, tmp_path / "out", tiny)
    told = {record["path"]: (record["status"], record["error"]) for record in report.aside}
    assert told["empty.flac"] == ("unreadable", "is empty (0 bytes); download or export it again")
    assert told["text.mp3"][0] == "unreadable"
    assert str(tmp_path) not in told["text.mp3"][1]
    assert report.done == 6


def test_stems_that_were_damaged_are_made_again_when_they_are_checked(songs, tiny, tmp_path):
    out = tmp_path / "out"
    run(songs, out, tiny)
    whole = files(out)
    stems = sorted(path for path in out.glob("stems/**/*.wav") if path.is_file())
    stems[0].unlink()
    stems[5].write_bytes(b"something else")
    assert run(songs, out, tiny).done == 0
    report = run(songs, out, tiny, limits=Limits(check=True))
    assert (report.done, len(report.notes)) == (2, 2)
    assert files(out) == whole


def test_a_setting_out_of_range_spoils_nothing(songs, tiny, tmp_path):
    with pytest.raises(SolovoxError, match="eta must be 0 to 1"):
        run(songs, tmp_path / "out", tiny, settings=Settings(eta=3.0))
    assert run(songs, tmp_path / "out", tiny, settings=Settings(eta=0.3)).done == 6
    with pytest.raises(SolovoxError, match="was begun with eta"):
        run(songs, tmp_path / "out", tiny, settings=Settings(eta=0.5))


def test_another_model_is_refused(songs, tiny, tmp_path):
    run(songs, tmp_path / "out", tiny)
    (songs / "more.wav").write_bytes(next(songs.rglob("*.wav")).read_bytes())
    with pytest.raises(SolovoxError, match="was begun with the model tiny"):
        run(songs, tmp_path / "out", "diff-dmx-small")


def test_other_formats_and_one_stem(songs, tiny, tmp_path):
    settings = Settings(extension="flac", write="vocals", gain=-6.0)
    run(songs, tmp_path / "out", tiny, settings=settings)
    stems = [path.name for path in (tmp_path / "out" / "stems").rglob("*") if path.is_file()]
    assert stems == ["vocals.flac"] * 6
    rows = pq.read_table(io.BytesIO((tmp_path / "out/manifest.parquet").read_bytes())).to_pylist()
    assert rows[0]["accompaniment_path"] is None


def command(songs, out, *words):
    code = "from solovox.cli import main; main()"
    words = ["catalogue", str(songs), str(out), "-d", "cpu", "-w", "2", *words]
    return [sys.executable, "-c", code, *words]


def test_the_command_with_processes(songs, tiny, tmp_path):
    (songs / "text.mp3").write_text("no sound\n" * 500)
    words = ["-n", tiny, "--shards", "2"]
    done = subprocess.run(command(songs, tmp_path / "out", *words), capture_output=True, text=True)
    assert done.returncode == 1
    assert "6 done now, 1 set aside" in done.stdout
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: text.mp3: unreadable: ")
    run(songs, tmp_path / "inline", tiny)
    assert files(tmp_path / "out") == files(tmp_path / "inline")


def test_a_shard_at_a_time_as_slurm_does_it(songs, tiny, tmp_path):
    out = tmp_path / "out"
    for shard in range(3):
        assert not (out / "manifest.parquet").exists()
        words = ["catalogue", str(songs), str(out), "-n", tiny, "--shards", "3", "-d", "cpu"]
        environment = {"SLURM_ARRAY_TASK_ID": str(shard)}
        result = CliRunner().invoke(main, [*words, "--engine", "inline"], env=environment)
        assert result.exit_code == 0, result.output
    run(songs, tmp_path / "whole", tiny)
    assert files(out) == files(tmp_path / "whole")
    result = CliRunner().invoke(main, [*words, "--shard", "3"])
    assert (result.exit_code, result.stderr) == (1, "Error: there is no shard 3; they are 0 to 2\n")


def test_a_signal_ends_a_run_cleanly(songs, tiny, tmp_path):
    out = tmp_path / "out"
    words = command(songs, out, "-n", tiny, "-w", "1")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (out / ".scratch").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    told, failed = process.communicate(timeout=60)
    assert process.returncode == 143, failed
    assert failed == ""
    assert "songs: 0 were done" in told
    assert not (out / ".scratch").exists()
    report = run(songs, out, tiny)
    assert report.before + report.done == 6


@pytest.mark.parametrize("fault", ["worker", "driver"])
def test_processes_that_are_killed(faults, tmp_path, fault, monkeypatch):
    model = faults.make_model(tmp_path / "model")
    faults.make_songs(tmp_path / "songs", 5)
    run(tmp_path / "songs", tmp_path / "whole", str(model))
    monkeypatch.setenv("WORKERS", "1")  # they take long to load
    monkeypatch.setitem(faults.FAULTS, "worker", ("", lambda case: faults.workers_killed(case, 1)))
    monkeypatch.setitem(faults.FAULTS, "driver", ("", lambda case: faults.drivers_killed(case, 1)))
    row = faults.check(fault, tmp_path, 5, tmp_path / "whole")
    assert row.good, row
    assert row.faults
