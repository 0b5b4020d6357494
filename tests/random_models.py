"""Models with random weights."""

import torch

from solovox.model import SeparationModel
from solovox.presets import ModelConfig, build_model


def stirred(config: ModelConfig, by: float) -> SeparationModel:
    """A model in which every weight matters: none of its layers starts at zero."""
    torch.manual_seed(0)
    model = build_model(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(by * torch.randn_like(weight))
    return model
