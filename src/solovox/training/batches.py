"""The chunks of each step, made ahead of it by worker processes.

    step s ─► chunks s·B … s·B + B - 1 ─┬─ process 0: the first B/world
                                        └─ process 1: the next …

A batch is a function of (seed, step, process), and the loader's sampler is a range of steps: it
starts anywhere at once, and nothing of a million steps is kept. Times and noise are drawn by the
workers too, so that a step waits for nothing. A worker's error that the user can mend travels to
the main process as it is, and is raised there as one line.
"""

import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from solovox.data.chunks import TrainingChunks
from solovox.diffusion.objective import draw_times_and_noise
from solovox.errors import SolovoxError


class Batch(NamedTuple):
    """What a process trains on in one step.

    Attributes:
        mixture, vocals: audio, [items, 2, samples].
        t: times, [items].
        eps: noise in the codec's space, [items, channels, frames].
    """

    mixture: Tensor
    vocals: Tensor
    t: Tensor
    eps: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))

    def parts(self, count: int) -> list["Batch"]:
        """The batch cut into equal parts."""
        return [Batch(*part) for part in zip(*(x.chunk(count) for x in self), strict=True)]


class Steps(Dataset[Batch | SolovoxError]):
    """One process's batch of each step.

    Args:
        chunks: the training chunks.
        batch_size: chunks a step, over all processes.
        shape: of a chunk's noise, [channels, frames].
        rank, world: which process of how many.

    Raises:
        SolovoxError: if the batch does not divide into the processes.
    """

    def __init__(
        self,
        chunks: TrainingChunks,
        batch_size: int,
        shape: tuple[int, int],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size % world:
            raise SolovoxError(f"a batch of {batch_size} does not divide into {world} processes")
        self.chunks = chunks
        self.batch_size = batch_size
        self.shape = shape
        self.share = batch_size // world
        self.first = rank * self.share

    def indices(self, step: int) -> range:
        """The chunks of a step that are this process's."""
        start = step * self.batch_size + self.first
        return range(start, start + self.share)

    def __getitem__(self, step: int) -> Batch | SolovoxError:
        """The batch of a step, or why it cannot be had."""
        indices = self.indices(step)
        try:
            mixtures, vocals = zip(*(self.chunks[index] for index in indices), strict=True)
        except SolovoxError as error:
            return error
        drawn = draw_times_and_noise(self.chunks.seed, list(indices), self.batch_size, self.shape)
        return Batch(torch.stack(mixtures), torch.stack(vocals), *drawn)


def load(
    steps: Steps, first: int, last: int, workers: int, pin: bool = False
) -> Generator[Batch, None, None]:
    """Yield the batches of the steps from `first` to before `last`.

    Args:
        steps: the batches.
        first, last: steps.
        workers: processes that make batches, two ahead each; 0 makes them in this one.
        pin: whether to keep them in memory from which GPUs copy fast.

    Raises:
        SolovoxError: as a worker met it.
    """
    loader = DataLoader(
        steps,
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_start_worker,
        pin_memory=pin,
    )
    for batch in loader:
        if isinstance(batch, SolovoxError):
            raise batch
        yield batch


@contextmanager
def memory_told() -> Iterator[None]:
    """Tell what a lack of memory does in one line.

    Raises:
        SolovoxError: if a worker was killed, wherever the loader found out, or a device is full.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SolovoxError(
            "the device has too little memory for this batch; "
            "try --accumulate 2, --checkpoint-activations or a smaller --batch-size"
        ) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise SolovoxError(
            "a process that makes data was killed, maybe for lack of memory; try fewer --workers"
        ) from error


def _start_worker(worker: int) -> None:
    """A worker computes in one thread, and goes when the main process does, not at Ctrl-C."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
