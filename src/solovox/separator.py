"""A model, a sampler and overlap-add behind one call: songs in, stems out.

    blocks ─┬─ resample ─► chunks ─► takes ─► rule ─► overlap-add ─ resample ─┐
            └────────────────── the mixture, kept for as long ────────────────┴─► stems

Everything is a stream of blocks, pulled by whoever consumes the stems, so memory does not depend
on the length. `generate_takes` makes the vocals of a batch of chunks; `stems` has the rules that
turn them into stems. The accompaniment is what is left of the mixture at the input's own rate, so
nothing that the model cannot hear is lost.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial
from importlib.metadata import version
from itertools import islice
from numbers import Integral
from pathlib import Path
from string import Formatter
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from solovox.audio import (
    LOUDEST,
    WARM_UP,
    AudioReader,
    AudioWriter,
    StreamResampler,
    is_number,
    remove_leftovers,
    resampled_length,
    whole_rate,
)
from solovox.averaging import RunningMean, take_seed
from solovox.backends import BACKENDS
from solovox.checkpoint import load_model
from solovox.chunking import ChunkPlan, OverlapAdd
from solovox.diffusion.noise import ChunkNoise, Noise
from solovox.diffusion.refinement import BANDS
from solovox.diffusion.sampling import SAMPLERS, warm_start
from solovox.diffusion.schedule import SPACINGS, times
from solovox.errors import AudioError, ModelError, SolovoxError
from solovox.model import SeparationModel
from solovox.names import below
from solovox.precision import PRECISIONS, autocast, resolve
from solovox.presets import SamplingConfig
from solovox.redo import Region, splice
from solovox.refine import Beside, read_beside, starting_from
from solovox.resume import FOLDER, ChunkStore, SongState, digest, file_digest
from solovox.stems import RULES
from solovox.uncertainty import UncertaintyMeter

FloatArray = npt.NDArray[np.float32]
Audio = TypeVar("Audio", npt.NDArray[np.floating], Tensor)
Progress = Callable[[float], None]
"""Told the share that is done, 0 to 1."""

STEMS = ("vocals", "accompaniment")
MOST_STEPS = 10_000
MOST_GAIN = 120  # dB
BLOCK = 65_536  # samples read at once
FREE = 0.5  # the least t from which takes differ by more than how they refine an estimate
BATCH = {"cuda": 4}  # chunks at once where there is room

log = logging.getLogger("solovox")


class Separator:
    """Separates songs into vocals and accompaniment with one model and one choice of settings.

    The same seed gives the same stems: from a file, an array or a stream. On a CPU they are the
    same to the last bit for any batch size, as long as the number of threads is; on a GPU, to
    rounding.

    Args:
        model: a name of `list_models`, a folder, a hub id, or a model.
        device: "auto" (cuda, else mps, else cpu), "cpu", "cuda", "cuda:1" or "mps".
        steps: passes of the generator; 0 returns the conditioner's own estimate.
        start: t at which sampling starts: 1 from noise, less from the estimate.
        eta: share of refinement noise, 0 to 1.
        cutoff: of the refinement noise's high-pass, in Hz; 0 leaves it white, "mixture" follows
            the mixture, "spread" what the conditioner is unsure of.
        sampler: a name of `diffusion.sampling.SAMPLERS`.
        spacing: of the steps, a name of `diffusion.schedule.SPACINGS`.
        takes: how often each chunk is sampled; the vocals are the mean.
        seed: of the noise.
        batch_size: chunks computed at once on a GPU; a CPU takes them one by one, for a batch would
            change the last bits of its sums.
        stems: how stems are made of generated vocals, a name of `stems.RULES`.
        precision: "auto" (bf16 where the machine is fast at it), "fp32" or "bf16".
        quality: "fast", "balanced" or "best": the model's named settings, which the ones above
            overrule.
        backend: what computes the generator, a name of `backends.BACKENDS`: "torch", "openvino" (a
            CPU, where it is installed) or "compile" (torch.compile; CUDA graphs on a GPU).

    Settings that are None are the quality's; without one, the model's own defaults ("balanced").

    Raises:
        ModelError: if there is no such model.
        SolovoxError: if a setting is out of range.
    """

    def __init__(
        self,
        model: str | Path | SeparationModel = "diff-dmx-small",
        device: str = "auto",
        steps: int | None = None,
        start: float | None = None,
        eta: float | None = None,
        cutoff: float | str | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        stems: str | None = None,
        precision: str = "auto",
        sampler: str | None = None,
        spacing: str | None = None,
        takes: int | None = None,
        quality: str | None = None,
        backend: str = "torch",
    ) -> None:
        self.device = find_device(device)
        if isinstance(model, SeparationModel):
            loaded = _on(model, self.device)
        else:
            loaded = load_model(model).to(self.device)
        config = loaded.config
        asked: dict[str, Any] = {
            "steps": steps,
            "start": start,
            "eta": eta,
            "cutoff": cutoff,
            "sampler": sampler,
            "spacing": spacing,
            "takes": takes,
        }
        self.sampling = replace(
            config.sampling_of(quality),
            **{name: value for name, value in asked.items() if value is not None},
        )
        self.seed = seed
        self.stems = stems or config.stems
        # A model that bf16 would change too much says so itself.
        self.precision = config.precision if precision == "auto" else precision
        self.backend = backend
        self.batch_size = BATCH.get(self.device.type, 1) if batch_size is None else batch_size
        self._check_settings(loaded.codec.sample_rate / 2)
        s = self.sampling  # NumPy's numbers become Python's, which JSON and generators take
        self.sampling = replace(
            s, steps=int(s.steps), takes=int(s.takes), start=float(s.start), eta=float(s.eta)
        )
        self.seed, self.batch_size = int(self.seed), int(self.batch_size)
        if self.sampling.eta and self.sampling.steps < 2:
            log.warning("eta does nothing here: refinement noise needs 2 steps or more")
        self._passes = self._rehearse()
        self._told: set[str] = set()
        self.plan = ChunkPlan.of(config.chunk, config.overlap)
        self.model = BACKENDS[backend](loaded.eval(), resolve(self.device, self.precision))
        chosen = ", ".join(f"{name} {value}" for name, value in vars(self.sampling).items())
        log.info("%s on %s: %s", config.name, self.device, chosen)

    @property
    def sample_rate(self) -> int:
        """The rate in Hz at which the model works; other input is resampled to it and back."""
        return self.model.codec.sample_rate

    def separate(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        progress: Progress | None = None,
        uncertainty: UncertaintyMeter | None = None,
        vocals: Audio | None = None,
    ) -> dict[str, Audio]:
        """The stems {"vocals", "accompaniment"}, float32 in the shape and type of `audio`.

        Args:
            audio: [channels, samples], one or two channels, floating point; it is left as it is.
            sample_rate: its rate in Hz; to be given.
            progress: called with the share that is done, 0 to 1.
            uncertainty: has a map afterwards of how far several takes are apart.
            vocals: another separator's vocals of the same song, to be generated again: sampling
                starts from them, not from the model's own estimate. [channels, samples], one or two
                channels, at the same rate, equally long but for `refine.TOLERANCE`.

        Raises:
            AudioError: if the audio has another shape, or NaN, infinite or no samples, or no rate,
                or the vocals do not fit it.
        """
        mixture = _as_array(audio)
        if sample_rate is None:  # not left to Python, for whom a file's name would lack a rate
            raise AudioError("audio needs its sample rate in Hz beside it")
        given = None if vocals is None else (_as_array(vocals),)
        stems = {name: np.empty_like(mixture) for name in STEMS}
        samples, done = mixture.shape[1], 0
        blocks = (mixture[:, start : start + BLOCK] for start in range(0, samples, BLOCK))
        for part in self.stream(
            blocks,
            sample_rate,
            frames=samples,
            progress=progress,
            uncertainty=uncertainty,
            vocals=given,
        ):
            end = done + part["vocals"].shape[1]
            for name, stem in stems.items():
                stem[:, done:end] = part[name]
            done = end
        if isinstance(audio, Tensor):
            return {name: torch.from_numpy(stem).to(audio.device) for name, stem in stems.items()}
        return stems

    def redo(
        self,
        audio: Audio,
        sample_rate: int,
        stems: dict[str, Audio],
        start: float,
        end: float,
        progress: Progress | None = None,
    ) -> dict[str, Audio]:
        """The stems with the seconds from `start` to `end` generated again, by this separator.

        Only the chunks that the region touches are computed. Within it the samples are those that
        `separate` would give (where the song is resampled: but for rounding), 30 ms before and
        after are crossfaded, and all others are those of `stems`, bit for bit.

        Args:
            audio: the mixture, as for `separate`.
            sample_rate: its rate in Hz.
            stems: of the same song, made with any settings; they are left as they are.
            start, end: of the region, in seconds.
            progress: called with the share that is done, 0 to 1.

        Raises:
            AudioError: as `separate`, or if the stems do not fit the audio.
            SolovoxError: if the region is empty, or not within the song.
        """
        mixture = _as_array(audio)
        sample_rate = whole_rate(sample_rate, "audio")
        seconds = mixture.shape[1] / sample_rate
        if not (is_number(start) and is_number(end) and 0 <= start < end and start < seconds):
            raise SolovoxError(
                f"no region from {start} to {end} s; choose one within the song's {seconds:g} s"
            )
        old = {name: _as_array(stem) for name, stem in stems.items()}
        if set(old) != set(STEMS) or any(stem.shape != mixture.shape for stem in old.values()):
            raise AudioError(f"stems must be {' and '.join(STEMS)}, each of the audio's shape")
        region = Region.of(start, min(end, seconds), sample_rate)
        blocks = (mixture[:, at : at + BLOCK] for at in range(0, mixture.shape[1], BLOCK))
        new = self.stream(blocks, sample_rate, progress=progress, only=region)
        (spliced,) = splice([old], new, region)
        if progress:
            progress(1.0)
        if isinstance(audio, Tensor):
            return {name: torch.from_numpy(part).to(audio.device) for name, part in spliced.items()}
        return spliced

    def separate_file(
        self,
        path: str | Path,
        out: str | Path = "separated",
        *,
        filename: str = "{track}/{stem}.{ext}",
        track: str | None = None,
        extension: str = "wav",
        subtype: str | None = None,
        stems: Sequence[str] = STEMS,
        gain: float = 0.0,
        resume: bool = False,
        progress: Progress | None = None,
        redone: Sequence[tuple[float, float, Separator]] = (),
        uncertainty: bool = False,
        vocals: str | Path | None = None,
    ) -> dict[str, Path]:
        """The files written, by stem: `out`/MODEL/`filename`, whole or not at all.

        Args:
            path: the song.
            out: folder of all output.
            filename: the file below `out`/MODEL, with {track}, {trackext}, {stem} and {ext}; if it
                has {model} too, the file below `out`.
            track: the song's name; None takes the file's. It may have folders, never above `out`.
            extension: "wav", "flac", "mp3" or "ogg".
            subtype: "float", "pcm24" or "pcm16"; None is the best that the format holds.
            stems: the stems to write.
            gain: in dB, for all stems alike.
            resume: whether to keep what is needed to go on after a kill, and to go on; a song whose
                stems are there, made of the same, is left alone (`solovox.resume`).
            progress: called with the share that is done, 0 to 1, after each pass of a network. What
                it raises stops the work.
            redone: (start, end, separator) of regions in seconds that are then generated again,
                each as `redo` does, one after the other.
            uncertainty: whether to write "uncertainty" too, a map of how far several takes are
                apart (`solovox.uncertainty`), as npz, and as PNG where matplotlib is installed.
            vocals: file of another separator's vocals of the song, to be generated again; see
                `separate`. It may have another rate.

        Raises:
            AudioError: if the song cannot be read or a stem cannot be written; nothing is left,
                but for what `resume` keeps.
        """
        if not stems or not set(stems) <= set(STEMS):
            raise SolovoxError(f"stems are {' and '.join(STEMS)}, not {', '.join(map(str, stems))}")
        check_gain(gain)
        if uncertainty:
            self._check_doubt()
            if self.sampling.start < FREE:
                self._tell_once(
                    f"takes start from one estimate (start {self.sampling.start:g}): the map shows "
                    "how they refine it, not what the model is unsure of; start 1 does, with more "
                    "steps"
                )
            if resume:
                self._tell_once(
                    "with an uncertainty map, nothing is kept of a song half done: it begins anew"
                )
        paths = {
            stem: self.path_of(path, stem, out, filename=filename, track=track, ext=extension)
            for stem in stems
        }
        chart = None
        if uncertainty:
            chart = self.path_of(
                path, "uncertainty", out, filename=filename, track=track, ext="npz"
            ).with_suffix(".npz")
            paths["uncertainty"] = chart
        if len(set(paths.values())) < len(paths):
            raise SolovoxError(
                f"file name '{filename}' has no {{stem}}: stems overwrite each other"
            )
        state = self._state_of(path, out, track)
        facts: dict[str, Any] = {}
        if resume:
            facts = {
                "song": file_digest(Path(path)),
                **self._facts,
                "output": {"subtype": subtype, "gain": gain},
                "redone": [[start, end, again._facts] for start, end, again in redone],
            }
            if vocals is not None:
                facts["vocals"] = file_digest(Path(vocals))
            if state.is_finished(facts, paths.values()):
                _Counter(progress, None, 1).finish()
                return paths
        state.forget()
        with AudioReader(path) as reader, ExitStack() as stack:
            store = None
            if resume:
                stack.enter_context(_folder(state.folder))
                stamp = digest({**self._facts, **self._machine})
                store = stack.enter_context(ChunkStore(state.chunks, stamp))
                for target in paths.values():
                    remove_leftovers(target)
            self._write_stems(
                path, reader, paths, chart, subtype, gain, progress, redone, store, vocals
            )
            if store is not None:
                state.finish(facts, paths.values())
                store.discard()
        return paths

    def _write_stems(
        self,
        path: str | Path,
        reader: AudioReader,
        paths: dict[str, Path],
        chart: Path | None,
        subtype: str | None,
        gain: float,
        progress: Progress | None,
        redone: Sequence[tuple[float, float, Separator]],
        store: ChunkStore | None,
        vocals: str | Path | None,
    ) -> None:
        factor = np.float32(10 ** (gain / 20))

        def song() -> Iterator[FloatArray]:
            try:
                yield from reader.blocks(BLOCK)
            except AudioError:  # the song's fault: there is nothing to resume
                if store is not None:
                    store.discard()
                raise

        with ExitStack() as stack:
            writers: dict[str, AudioWriter] = {}
            for stem, target in paths.items():
                stack.enter_context(_folder(target.parent))
                if target == chart:
                    continue
                writer = AudioWriter(target, reader.sample_rate, reader.channels, subtype)
                writers[stem] = stack.enter_context(writer)
            share = 0.0

            def tell(now: float | None) -> None:
                nonlocal share
                share = share if now is None else now
                if progress:
                    progress(share)

            meter = UncertaintyMeter() if chart else None
            given = None if vocals is None else read_beside(vocals, reader, stack)
            parts = self.stream(
                song(),
                reader.sample_rate,
                frames=_expected_frames(reader),
                progress=tell,
                name=reader.name,
                uncertainty=meter,
                store=None if meter else store,  # a map needs all takes of all chunks
                vocals=given,
            )
            for start, end, separator in redone:
                again = stack.enter_context(AudioReader(path))
                region = Region.of(start, end, again.sample_rate)
                new = separator.stream(
                    again.blocks(BLOCK),
                    again.sample_rate,
                    progress=lambda _: tell(None),  # it can stop the work
                    name=again.name,
                    only=region,
                )
                parts = splice(parts, new, region)
            for part in parts:
                for stem, writer in writers.items():
                    writer.write(part[stem] * factor if gain else part[stem])
        warn_of_clipping(reader.name, writers.values(), gain)
        if meter and chart:
            meter.map.write(chart, Path(path).stem)

    def path_of(
        self,
        song: str | Path,
        stem: str,
        out: str | Path = "separated",
        *,
        filename: str = "{track}/{stem}.{ext}",
        track: str | None = None,
        ext: str = "wav",
    ) -> Path:
        """The file in which `separate_file` puts a stem of a song."""
        fields = {
            "track": below(Path(song).stem if track is None else track),
            "trackext": Path(song).suffix[1:],
            "stem": stem,
            "ext": ext,
            "model": below(self.model.config.name),
        }
        try:
            parsed = list(Formatter().parse(filename))
        except ValueError:
            parsed = [("", "", None, None)]
        # Names alone: a width such as {track:999999999} would fill memory.
        if any(
            field is not None and (field not in fields or spec or conversion)
            for _, field, spec, conversion in parsed
        ):
            names = ", ".join(f"{{{field}}}" for field in fields)
            raise SolovoxError(f"file name '{filename}' is no template; use {names}")
        relative = filename.format(**fields)
        if relative.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", relative):
            raise SolovoxError(f"file name '{filename}' leads out of the folder; leave '..' out")
        placed = any(field == "model" for _, field, _, _ in parsed)
        folder = Path(out) if placed else Path(out) / fields["model"]
        return folder / below(relative)

    def stream(
        self,
        blocks: Iterable[FloatArray],
        sample_rate: int,
        *,
        frames: int | None = None,
        progress: Progress | None = None,
        name: str = "audio",
        only: Region | None = None,
        uncertainty: UncertaintyMeter | None = None,
        store: ChunkStore | None = None,
        vocals: Iterable[FloatArray] | None = None,
    ) -> Iterator[dict[str, FloatArray]]:
        """Yield the stems block by block, as many samples in all as went in.

        Args:
            blocks: float32 [channels, any length], all of the same one or two channels.
            sample_rate: their rate in Hz.
            frames: how many samples to expect, for `progress`; None or wrong does no harm.
            progress: called with the share that is done, 0 to 1.
            name: what error messages call the audio.
            only: a region of samples; what no chunk that touches it gives need not be heard, and is
                not generated: there, all is accompaniment.
            uncertainty: has a map afterwards of how far several takes are apart.
            store: what the networks have made of the same blocks earlier, and will have made.
            vocals: another separator's vocals as blocks of any lengths, see `separate`.

        Raises:
            AudioError: if a block has another shape, or NaN or infinite samples, or there is none;
                or the vocals do not fit.
            SolovoxError: if there are vocals to start from, and sampling starts from noise.
        """
        if vocals is not None and self.sampling.steps and self.sampling.start == 1:
            raise SolovoxError("start 1 is noise and would forget the vocals; choose less, as 0.3")
        beside = None if vocals is None else Beside(vocals, sample_rate, name)
        sample_rate = whole_rate(sample_rate, name)
        rate = self.sample_rate
        chunks = frames and self.plan.count(resampled_length(frames, sample_rate, rate))
        wanted = None
        if only is not None:
            wanted = self._touched(only, sample_rate)
            chunks = len(range(chunks or wanted.stop)[wanted.start : wanted.stop])
        counter = _Counter(progress, chunks, self._passes)
        if uncertainty:
            self._check_doubt()
            uncertainty.begin(self.sampling.takes, rate, sample_rate)
        mixture = _Kept()

        def heard() -> Iterator[FloatArray]:
            for block in blocks:
                _check(block, name, mixture.channels)
                mixture.put(block)
                if uncertainty:
                    uncertainty.hear(block.shape[1])
                yield block if beside is None else beside.under(block)
            if beside is not None:
                beside.finish()

        # Rows: the vocals; then, where it is something else, what the accompaniment lacks.
        resampled = _resampled(heard(), sample_rate, rate)
        separated = self._separated(resampled, counter, wanted, uncertainty, store)
        block = None
        for block in _resampled(separated, rate, sample_rate):
            there = mixture.take(block.shape[1])  # less where resampling made one sample too many
            if there.shape[1]:
                yield _stems(there, block[:, : there.shape[1]])
        if block is None:
            raise AudioError(f"{name}: has no samples")
        rest = mixture.take()  # where it made one too few
        if rest.shape[1]:
            yield _stems(rest, np.zeros((len(block), rest.shape[1]), np.float32))
        counter.finish()

    def _check_doubt(self) -> None:
        if self.sampling.takes < 2:
            raise SolovoxError("an uncertainty map needs 2 takes or more")

    def _tell_once(self, text: str) -> None:
        """Warn, but not of each song again."""
        if text not in self._told:
            self._told.add(text)
            log.warning("%s", text)

    def _touched(self, region: Region, sample_rate: int) -> range:
        """The indices of the chunks on which a region's samples depend."""
        rate, plan = self.sample_rate, self.plan
        reach = 0 if rate == sample_rate else WARM_UP * max(1, math.ceil(rate / sample_rate))
        first = region.first * rate // sample_rate - reach
        last = -(-region.last * rate // sample_rate) + reach
        return range(max(0, (first - plan.chunk) // plan.hop + 1), -(-last // plan.hop))

    def _separated(
        self,
        blocks: Iterable[FloatArray],
        counter: _Counter,
        wanted: range | None,
        uncertainty: UncertaintyMeter | None,
        store: ChunkStore | None,
    ) -> Iterator[FloatArray]:
        """Yield what the rule makes of each chunk, overlap-added; all at the model's rate.

        Chunks that are not wanted are taken for silence.
        """
        stream = OverlapAdd(self.plan)

        def chunks() -> Iterator[tuple[int, FloatArray]]:
            for block in blocks:
                yield from stream.feed(block)
            yield from stream.end()

        size = 1 if self.device.type == "cpu" else self.batch_size
        waiting = chunks()
        silence = None
        while batch := list(islice(waiting, size)):
            heard = [item for item in batch if wanted is None or item[0] in wanted]
            rows = iter(())
            if heard:
                rows = iter(self._stored_or_processed(heard, counter, uncertainty, store))
            for index, chunk in batch:
                if wanted is None or index in wanted:
                    yield stream.add(next(rows))
                    continue
                if silence is None:
                    silence = self._rows([(index, np.zeros_like(chunk))], counter)[0]
                yield stream.add(silence)

    def _stored_or_processed(
        self,
        batch: list[tuple[int, FloatArray]],
        counter: _Counter,
        uncertainty: UncertaintyMeter | None,
        store: ChunkStore | None,
    ) -> FloatArray:
        """The rows of some chunks; kept in the store, if there is one."""
        if store is None:
            return self._process(batch, counter, uncertainty)
        chunks = np.stack([chunk for _, chunk in batch])
        rows = store.take(chunks)
        if rows is not None:
            counter.chunks(len(batch))
            return rows
        rows = self._process(batch, counter, uncertainty)
        store.put(chunks, rows)
        return rows

    def _process(
        self,
        batch: list[tuple[int, FloatArray]],
        counter: _Counter,
        uncertainty: UncertaintyMeter | None,
    ) -> FloatArray:
        """The rows [batch, rows, samples] that the rule makes of some (index, chunk)."""
        try:
            rows = self._rows(batch, counter, uncertainty)
        except NotImplementedError as error:
            if self.device.type != "mps":
                raise
            log.warning("going on with the CPU, for mps lacks something: %s", error)
            self.device = torch.device("cpu")
            self.model.to(self.device)
            rows = self._rows(batch, counter, uncertainty)
        except torch.OutOfMemoryError as error:
            raise SolovoxError(
                f"{self.device} has too little memory for {len(batch)} chunks at once; "
                "choose a smaller batch size, or the CPU"
            ) from error
        counter.chunks(len(batch))
        return rows

    @torch.inference_mode()
    def _rows(
        self,
        batch: list[tuple[int, FloatArray]],
        counter: _Counter,
        uncertainty: UncertaintyMeter | None = None,
    ) -> FloatArray:
        chunks = np.stack([chunk for _, chunk in batch])
        vocals = None
        if chunks.shape[1] > 2:  # two rows of vocals to start from lie below the mixture
            chunks, given = np.split(chunks, [-2], axis=1)
            vocals = torch.from_numpy(given).to(self.device)
        mixture = torch.from_numpy(chunks).to(self.device)
        if mono := mixture.shape[1] == 1:
            mixture = mixture.repeat(1, 2, 1)
        generated = torch.zeros_like(mixture)
        # Where there is nothing to hear, nobody sings: the generator is not asked.
        audible = [item for item, chunk in enumerate(chunks) if chunk.any()]
        if audible:
            indices = [batch[item][0] for item in audible]
            generated[audible] = self._mean_take(
                mixture[audible],
                None if vocals is None else vocals[audible],
                indices,
                lambda: counter.passes(len(audible)),
                uncertainty,
            )
        kept, removed = RULES[self.stems](mixture, generated)
        stems = [kept] if removed is kept else [kept, removed]
        if mono:
            stems = [stem.mean(dim=1, keepdim=True) for stem in stems]
        rows: FloatArray = torch.cat(stems, dim=1).cpu().numpy()
        return rows

    def _mean_take(
        self,
        mixture: Tensor,
        vocals: Tensor | None,
        indices: list[int],
        on_pass: Callable[[], None],
        uncertainty: UncertaintyMeter | None,
    ) -> Tensor:
        """The mean of the takes of some chunks [batch, 2, samples]; one is held at a time."""
        codec, takes = self.model.codec, self.sampling.takes
        shape = (codec.channels, codec.frames(mixture.shape[-1]))
        noises = (
            ChunkNoise(take_seed(self.seed, take, takes), indices, shape, self.device)
            for take in range(takes)
        )
        mean = RunningMean()
        places = [(index * self.plan.hop, self.plan.overlap) for index in indices]
        sampled = generate_takes(
            self.model, mixture, noises, self.sampling, self.precision, on_pass, vocals
        )
        for take in sampled:
            deviation = mean.add(take)
            if uncertainty:
                for place, audio in zip(places, deviation, strict=True):
                    uncertainty.deviation(*place, audio)
        if uncertainty:
            for place, audio in zip(places, mean.value, strict=True):
                uncertainty.mean(*place, audio)
        return mean.value

    def _state_of(self, song: str | Path, out: str | Path, track: str | None) -> SongState:
        name = f"{Path(song).stem if track is None else track}\n{Path(song).suffix}"
        return SongState(Path(out) / below(self.model.config.name) / FOLDER, name)

    @cached_property
    def _model_digest(self) -> str:
        """The SHA-256 of the model's configuration and weights."""
        digest = hashlib.sha256(repr(self.model.config).encode())
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @property
    def _facts(self) -> dict[str, Any]:
        """What the stems depend on, besides the song."""
        return {
            "model": self._model_digest,
            "sampling": vars(self.sampling),
            "seed": self.seed,
            "stems": self.stems,
            "precision": self.precision,
            "backend": self.backend,
        }

    @property
    def _machine(self) -> dict[str, Any]:
        """What the last bits of the networks' output depend on, besides."""
        return {
            "solovox": version("solovox"),
            "torch": torch.__version__,
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "batch_size": self.batch_size,
        }

    def _check_settings(self, nyquist: float) -> None:
        s = self.sampling
        whole = {
            "steps": s.steps,
            "takes": s.takes,
            "seed": self.seed,
            "batch_size": self.batch_size,
        }
        for name, number in whole.items():
            if not isinstance(number, Integral) or isinstance(number, bool):
                raise SolovoxError(f"{name} must be a whole number, not {number!r}")
        real = {"start": s.start, "eta": s.eta, "cutoff": s.cutoff}
        for name, real_number in real.items():
            if not is_number(real_number) and not (
                name == "cutoff" and isinstance(real_number, str)
            ):
                raise SolovoxError(f"{name} must be a number, not {real_number!r}")
        for name, value, good, wanted in (
            ("steps", s.steps, 0 <= s.steps <= MOST_STEPS, f"0 to {MOST_STEPS}"),
            ("start", s.start, 0 < s.start <= 1, "above 0 and at most 1"),
            ("eta", s.eta, 0 <= s.eta <= 1, "0 to 1"),
            (
                "cutoff",
                s.cutoff,
                s.cutoff in BANDS if isinstance(s.cutoff, str) else 0 <= s.cutoff < nyquist,
                f"0 or more and below {nyquist:g} Hz, or {' or '.join(BANDS)}",
            ),
            ("sampler", s.sampler, s.sampler in SAMPLERS, " or ".join(SAMPLERS)),
            ("takes", s.takes, s.takes >= 1, "1 or more"),
            ("takes", s.takes, s.takes == 1 or s.steps > 0, "1 where steps is 0"),
            ("spacing", s.spacing, s.spacing in SPACINGS, " or ".join(SPACINGS)),
            ("batch_size", self.batch_size, self.batch_size >= 1, "1 or more"),
            ("stems", self.stems, self.stems in RULES, " or ".join(RULES)),
            ("backend", self.backend, self.backend in BACKENDS, " or ".join(BACKENDS)),
            ("precision", self.precision, self.precision in PRECISIONS, " or ".join(PRECISIONS)),
        ):
            if not good:
                raise SolovoxError(f"{name} must be {wanted}, not {ascii(value)[:60]}")

    def _rehearse(self) -> int:
        """Passes of the networks that a chunk takes; raise if the sampler refuses the settings."""
        passes = 0

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            nonlocal passes
            passes += 1
            return x_t

        s, nothing = self.sampling, torch.zeros(1, 1, 1)
        if s.steps:
            try:
                grid = times(s.steps, s.start, s.spacing)
                SAMPLERS[s.sampler](velocity, nothing, grid, eta=s.eta, refinement=lambda: nothing)
            except ValueError as error:
                raise SolovoxError(str(error)) from error
        return 1 + s.takes * passes


def generate_takes(
    model: SeparationModel,
    mixture: Tensor,
    noises: Iterable[Noise],
    sampling: SamplingConfig,
    precision: str = "auto",
    on_pass: Callable[[], None] = lambda: None,
    vocals: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield takes of the vocals [batch, 2, samples] that a model hears in a batch of chunks.

    The conditioner listens once, for all takes.

    Args:
        model: codec, conditioner and generator.
        mixture: [batch, 2, samples] at the codec's rate.
        noises: for each take, a source of white noise [batch, codec.channels, frames].
        sampling: steps, start, eta, cutoff, sampler and spacing.
        precision: what the networks compute in, see `solovox.precision`.
        on_pass: called after each pass of a network.
        vocals: to start from, [batch, 2, samples], in place of the model's own estimate.

    Raises:
        ModelError: if the settings need a one-pass estimate and the model has none.
    """
    level = model.level(mixture)
    with autocast(mixture.device, precision):
        features = model.condition(mixture / level, sampling.cutoff)
    if vocals is not None:
        features = starting_from(features, vocals / level, model.codec)
    on_pass()
    if sampling.steps == 0 or sampling.start < 1:
        if features.estimate is None or features.mean is None:
            raise ModelError(
                f"{model.config.name} has no estimate to start from; use 1 step or more and start 1"
            )
        if sampling.steps == 0:
            for _ in noises:
                yield features.estimate.float() * level
            return

    lost = model.lost(features) if sampling.start < 1 else 0.0
    with autocast(mixture.device, precision):
        features = model.prepare(features)

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        with autocast(mixture.device, precision):
            v = model.velocity(x_t, t.to(x_t.device).expand(len(x_t)), features)
        on_pass()
        return v.float()

    def refinement(noise: Noise) -> Tensor:
        return model.shape_noise(noise(), sampling.cutoff, features)

    grid = times(sampling.steps, sampling.start, sampling.spacing)
    for noise in noises:
        x = noise()
        if sampling.start < 1 and features.mean is not None:
            x = warm_start(features.mean.float(), x, sampling.start)
        x0 = SAMPLERS[sampling.sampler](
            velocity, x, grid, eta=sampling.eta, refinement=partial(refinement, noise)
        )
        yield (model.codec.decode(x0, mixture.shape[-1]) + lost) * level


def check_gain(gain: float) -> None:
    """Raise a SolovoxError if a gain in dB is no number, or absurd."""
    if not (is_number(gain) and abs(gain) <= MOST_GAIN):
        raise SolovoxError(f"gain must be a number from -{MOST_GAIN} to {MOST_GAIN} dB, not {gain}")


def warn_of_clipping(name: str, writers: Iterable[AudioWriter], gain: float = 0.0) -> None:
    """Log what was clipped of a song's stems, or will be, and the gain in dB that would do."""
    writers = list(writers)
    clipped = sum(writer.clipped for writer in writers)
    if clipped or any(writer.overloads for writer in writers):
        loudest = 20 * math.log10(max(writer.peak for writer in writers))
        what = f"{clipped} samples were clipped" if clipped else "most players will clip the peaks"
        log.warning(
            "%s: %s; write float wav, or use a gain of %.1f dB",
            name, what, math.floor(10 * (gain - loudest)) / 10,
        )  # fmt: skip


def _on(model: SeparationModel, device: torch.device) -> SeparationModel:
    """The model on a device: itself if it is there, else a copy, since others may use it."""
    here = next(model.parameters(), torch.empty(0)).device
    there = torch.empty(0, device=device).device  # with an index
    return model if here == there else deepcopy(model).to(device)


def find_device(name: str = "auto") -> torch.device:
    """The device of that name; the CPU, with a warning, where it is not there.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        SolovoxError: if it is no device's name.
    """
    there: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, is_there in there.items() if is_there()))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in there:
        raise SolovoxError(f"unknown device '{name}'; use auto, {', '.join(there)} or cuda:1")
    beyond = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if beyond or not there[device.type]():
        log.warning("%s is not available here; using the CPU", name)
        return torch.device("cpu")
    return device


class _Counter:
    """Tells a callback the share of passes done: it rises to 1; unknown, it is 0 until the end."""

    def __init__(self, tell: Progress | None, chunks: int | None, passes: int) -> None:
        self._tell = tell
        self._total = chunks
        self._per_chunk = passes
        self._chunks = self._passes = 0

    def passes(self, items: int) -> None:
        """A network has passed over `items` chunks."""
        self._passes += items
        if self._tell:
            done = self._chunks + self._passes / self._per_chunk
            self._tell(min(done / self._total, 1.0) if self._total else 0.0)

    def chunks(self, items: int) -> None:
        """`items` chunks are done."""
        self._chunks += items
        self._passes = 0
        self.passes(0)

    def finish(self) -> None:
        """All is done, whatever was expected."""
        if self._tell:
            self._tell(1.0)


class _Kept:
    """The mixture, first in first out, until its stems are there."""

    def __init__(self) -> None:
        self._audio: FloatArray | None = None

    @property
    def channels(self) -> int | None:
        """Channels of what came in; None before the first block."""
        return None if self._audio is None else len(self._audio)

    def put(self, block: FloatArray) -> None:
        """Keep a copy of a block."""
        earlier = block[:, :0] if self._audio is None else self._audio
        self._audio = np.concatenate((earlier, block), axis=1)

    def take(self, samples: int | None = None) -> FloatArray:
        """The next `samples` samples, or what there is."""
        assert self._audio is not None  # nothing comes out before something has gone in
        taken = self._audio[:, :samples]
        self._audio = self._audio[:, taken.shape[1] :]
        return taken


def _stems(mixture: FloatArray, separated: FloatArray) -> dict[str, FloatArray]:
    channels = len(mixture)
    return {"vocals": separated[:channels], "accompaniment": mixture - separated[-channels:]}


def _resampled(blocks: Iterable[FloatArray], rate_in: int, rate_out: int) -> Iterator[FloatArray]:
    resampler = None
    for block in blocks:
        if resampler is None:
            resampler = StreamResampler(rate_in, rate_out, len(block))
            nothing = np.zeros((len(block), 0), np.float32)
        yield resampler.process(block)
    if resampler is not None:
        yield resampler.process(nothing, last=True)


def _as_array(audio: npt.NDArray[np.floating] | Tensor) -> FloatArray:
    """The audio as float32; a view of it where it is that already."""
    if isinstance(audio, Tensor):
        audio = audio.detach().cpu()
        audio = (audio.float() if audio.dtype == torch.bfloat16 else audio).numpy()
    if isinstance(audio, str | Path):
        raise AudioError(
            "audio must be samples, not a file; use separate_file, or read_audio first"
        )
    if not isinstance(audio, np.ndarray) or not np.issubdtype(audio.dtype, np.floating):
        kind = getattr(audio, "dtype", type(audio).__name__)
        integers = isinstance(audio, np.ndarray) and np.issubdtype(audio.dtype, np.integer)
        hint = "; divide 16-bit integers by 32768.0" if integers else ""
        raise AudioError(
            f"audio must be an array of floating point, full scale 1.0, not {kind}{hint}"
        )
    _check_shape(audio.shape, "audio", None)
    _check_level(audio, "audio")  # before float32 makes it infinite
    return audio.astype(np.float32, copy=False)


def _check(block: FloatArray, name: str, channels: int | None) -> None:
    if block.dtype != np.float32:
        raise AudioError(f"{name}: blocks must be of float32, full scale 1.0, not {block.dtype}")
    _check_shape(block.shape, name, channels)
    _check_level(block, name)


def _check_level(audio: npt.NDArray[Any], name: str) -> None:
    if audio.size and not float(np.abs(audio).max()) <= LOUDEST:  # `not <=` catches NaN too
        raise AudioError(f"{name}: has NaN, infinite or absurdly large samples; export it again")


def _check_shape(shape: tuple[int, ...], name: str, channels: int | None) -> None:
    if len(shape) != 2:
        raise AudioError(f"{name}: must have the shape [channels, samples], not {list(shape)}")
    if shape[0] not in (1, 2):
        hint = "; transpose it" if shape[1] in (1, 2) else "; fold it down to stereo"
        raise AudioError(f"{name}: has {shape[0]} channels, solovox takes 1 or 2{hint}")
    if channels not in (None, shape[0]):
        raise AudioError(f"{name}: goes from {channels} to {shape[0]} channels")


def _expected_frames(reader: AudioReader) -> int | None:
    if reader.frames is not None or reader.seconds is None:
        return reader.frames
    return round(reader.seconds * reader.sample_rate)


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Make a folder; if the body fails, take away what was made and is still empty."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise AudioError(f"{path}: cannot be made ({reason}); choose another place") from error
    try:
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise
