"""Put together the model that ldm-dmx-small's training starts from.

    python recipes/ldm-dmx-small/start.py CODEC CONDITIONER DATA OUT

CODEC is a model folder of encodec-small, CONDITIONER one of diff-dmx-small, DATA a data set. The
conditioner hears the same mixture in both, so it is taken as it is; its spread is that of the low
bands, in the latents' scale, and of the learnt latents the error that its estimate makes on DATA.
The latents' statistics are measured on DATA's vocals first. The generator is new.
"""

import sys
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from solovox.checkpoint import load_model, save_model
from solovox.codecs.encodec_small import SmallEncodec
from solovox.data.chunks import ChunkConfig, TrainingChunks
from solovox.model import SeparationModel
from solovox.networks.band_split import BandMerge
from solovox.presets import build_model

CHUNKS, SAMPLES = 24, 131_072


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
    with torch.inference_mode():
        errors = []
        for one, sung in zip(mixture.split(1), vocals.split(1), strict=True):
            mean = model.condition(one).mean
            assert mean is not None
            errors.append((model.codec.encode(sung) - mean).square().mean(dim=(0, 2)))
    set_learned_spread(model, torch.stack(errors).mean(dim=0).sqrt())
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
def set_learned_spread(model: SeparationModel, error: Tensor) -> None:
    """Set the learnt latents' spread to a constant each."""
    codec, patch = model.codec, model.config.conditioner.patch
    assert isinstance(codec, SmallEncodec)
    kept = model.config.codec.kept
    wanted = torch.log(error.clamp(min=1e-3)).reshape(2, codec.width)[:, kept:] + 1.5
    groups = list(heads(model).unfold)[-(wanted.shape[1] // 8) :]
    edges = range(0, wanted.shape[1] + 1, 8)
    for layer, (low, high) in zip(groups, pairwise(edges), strict=True):
        layer.weight.zero_()
        layer.bias.copy_(wanted[:, low:high].T[:, :, None].expand(-1, -1, patch).reshape(-1))


if __name__ == "__main__":
    trained = [load_model(folder) for folder in sys.argv[1:3]]
    save_model(start(*trained, Path(sys.argv[3])), Path(sys.argv[4]))
