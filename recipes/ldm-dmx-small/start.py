"""Put together the model that ldm-dmx-small's training starts from.

    python recipes/ldm-dmx-small/start.py CODEC CONDITIONER DATA OUT [GENERATOR]

CODEC is a model folder of encodec-small, CONDITIONER one of diff-dmx-small, DATA a data set. The
conditioner hears the same mixture in both, so it is taken as it is; its spread is that of the low
bands, in the latents' scale; that of the learnt latents is fitted to its estimate's errors on DATA.
The latents' statistics are measured on DATA's vocals first. The generator is new, or that of the
ldm-dmx-small in GENERATOR, which goes on with another conditioner.
"""

from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from solovox.checkpoint import load_model, save_model
from solovox.codecs.encodec_small import SmallEncodec
from solovox.data.chunks import ChunkConfig, TrainingChunks
from solovox.model import SeparationModel
from solovox.networks.band_split import LEARNED_BAND, BandMerge
from solovox.presets import build_model

CHUNKS, SAMPLES = 20, 131_072
RIDGE = 1e-3


def start(codec: SeparationModel, conditioner: SeparationModel, data: Path) -> SeparationModel:
    """The model: a trained codec, a trained conditioner, a new generator."""
    torch.manual_seed(0)
    model = build_model("ldm-dmx-small").eval()
    assert isinstance(model.codec, SmallEncodec)
    model.codec.load_state_dict(codec.codec.state_dict())
    chunks = TrainingChunks(data / "train", ChunkConfig(SAMPLES), seed=1)
    pairs = [torch.stack(pair) for pair in zip(*(chunks[i] for i in range(CHUNKS)), strict=True)]
    mixture, vocals = (audio / model.level(pairs[0]) for audio in pairs)
    model.codec.fit(vocals)

    old = conditioner.conditioner.state_dict()
    new = model.conditioner.state_dict()
    trunk = {k: v for k, v in old.items() if not k.startswith("log_spread.unfold")}
    model.conditioner.load_state_dict({**new, **trunk})
    take_spread(model, conditioner)
    fit_learned_spread(model, mixture, vocals)
    return model


def heads(model: SeparationModel) -> BandMerge:
    head = model.conditioner.log_spread
    assert isinstance(head, BandMerge)
    return head


@torch.no_grad()
def take_spread(model: SeparationModel, conditioner: SeparationModel) -> None:
    """Copy the spread of the bands that are latents; of a band that is cut, its lower bins."""
    codec, patch = model.codec, model.config.conditioner.patch
    assert isinstance(codec, SmallEncodec)
    kept, begin = model.config.codec.kept, 0
    deviation = torch.log(codec.deviation[:, 0]).reshape(2, codec.width)
    for layer, source in zip(heads(model).unfold, heads(conditioner).unfold, strict=False):
        bins = min(source.out_features // (2 * patch), kept - begin)
        if bins <= 0:
            break
        for mine, theirs in ((layer.weight, source.weight), (layer.bias, source.bias)):
            mine.copy_(rows(theirs, patch)[:bins].reshape(mine.shape))
        shift = deviation[:, begin : begin + bins].T[:, :, None].expand(-1, -1, patch)
        layer.bias.sub_(shift.reshape(-1))
        begin += bins
    assert begin == kept


def rows(values: Tensor, patch: int) -> Tensor:
    """A layer's rows [bins·features·patch, …] as [bins, features, patch, …]."""
    return values.reshape(-1, 2, patch, *values.shape[1:])


@torch.no_grad()
def fit_learned_spread(model: SeparationModel, mixture: Tensor, vocals: Tensor) -> None:
    """Fit the learnt latents' spread: least squares of the error's logarithm on the head's hidden
    values. For a normal error of deviation r the mean of log|error| is log r - 0.635."""
    codec, head, patch = model.codec, heads(model), model.config.conditioner.patch
    assert isinstance(codec, SmallEncodec)
    kept, learned = model.config.codec.kept, model.config.codec.learned
    tokens = -(-codec.frames(SAMPLES) // patch)
    hidden: list[Tensor] = []
    watch = head.hidden.register_forward_hook(
        lambda *call: hidden.append(F.gelu(call[2])[:, :, :tokens])
    )
    targets = []
    for one, sung in zip(mixture.split(1), vocals.split(1), strict=True):
        mean = model.condition(one).mean
        assert mean is not None
        error = (codec.encode(sung) - mean).reshape(2, codec.width, -1)[:, kept:]
        error = F.pad(error, (0, -error.shape[-1] % patch)).unflatten(2, (-1, patch))
        targets.append(
            torch.log(error.abs() + 1e-3).permute(2, 1, 0, 3)
        )  # steps, latents, 2, patch
    watch.remove()
    x, y = torch.cat(hidden, dim=2)[0], torch.cat(targets) + 0.635 + 1.5
    bands = range(len(head.unfold) - learned // LEARNED_BAND, len(head.unfold))
    for i, band in enumerate(bands):
        rows_in = F.pad(x[band].double(), (0, 1), value=1.0)
        rows_out = y[:, i * LEARNED_BAND : (i + 1) * LEARNED_BAND].flatten(1).double()
        ridge = RIDGE * len(rows_in) * torch.eye(rows_in.shape[1], dtype=torch.float64)
        solved = torch.linalg.solve(rows_in.T @ rows_in + ridge, rows_in.T @ rows_out).float()
        layer = head.unfold[band]
        layer.weight.copy_(solved[:-1].T)
        layer.bias.copy_(solved[-1])


@click.command()
@click.argument("codec")
@click.argument("conditioner")
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("generator", required=False)
def main(codec: str, conditioner: str, data: Path, out: Path, generator: str | None) -> None:
    """Put the models CODEC and CONDITIONER together to OUT, measured on DATA."""
    begun = start(load_model(codec), load_model(conditioner), data)
    if generator:
        begun.generator.load_state_dict(load_model(generator).generator.state_dict())
    save_model(begun, out)


if __name__ == "__main__":
    main()
