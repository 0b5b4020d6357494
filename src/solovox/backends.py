"""Other engines for the generator, which takes most of the time: OpenVINO, or torch's compiler.

OpenVINO: a generator is traced once for the shapes of a model's chunks, when it is first called,
and compiled for this CPU. Whoever calls it does not notice. The conditioner runs once a chunk and
has a Fourier transform of its own: it stays with torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from solovox.errors import SolovoxError
from solovox.model import SeparationModel
from solovox.networks.features import Features

_PRECISIONS = {"bf16": "bf16", "fp32": "f32"}
_GIVEN = ("mean", "mixture", "spread")  # of the features, where there are any


class OpenVinoGenerator(nn.Module):
    """A generator that OpenVINO computes on the CPU.

    Args:
        generator: the network; it is traced, and kept for `prepare`.
        precision: "bf16" or "fp32".
        threads: of the CPU; 0 leaves it to OpenVINO.

    Raises:
        SolovoxError: if OpenVINO is not installed.
    """

    def __init__(self, generator: nn.Module, precision: str, threads: int = 0) -> None:
        super().__init__()
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise SolovoxError(
                "the backend openvino is not installed: pip install 'solovox[openvino]'"
            ) from error
        self.generator = generator
        self._settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _PRECISIONS[precision]}
        if threads:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled: dict[Any, Any] = {}

    @property
    def needs_mixture(self) -> bool:
        """Whether the network takes the mixture in the codec's space."""
        return bool(getattr(self.generator, "needs_mixture", True))

    def prepare(self, features: Features) -> Features:
        """What the network itself makes of features, as contiguous 32-bit tensors."""
        prepare = getattr(self.generator, "prepare", lambda features: features)
        prepared: Features = prepare(features)
        return replace(
            prepared,
            embeddings=tuple(e.float().contiguous() for e in prepared.embeddings),
            estimates=(),
        )

    def forward(self, x_t: Tensor, t: Tensor, features: Features) -> Tensor:
        """The velocity at x_t and t; arguments as the network's, features as of `prepare`."""
        names = [name for name in _GIVEN if getattr(features, name) is not None]
        tensors = [x_t, t, *(getattr(features, name) for name in names), *features.embeddings]
        inputs = tuple(tensor.float().contiguous() for tensor in tensors)
        key = (type(features), *names, *(tuple(tensor.shape) for tensor in inputs))
        if key not in self._compiled:
            traced = _Flat(self.generator, type(features), names)
            self._compiled[key] = self._compile(traced.eval(), inputs)
        result = self._compiled[key]([tensor.numpy() for tensor in inputs])[0]
        return torch.from_numpy(result.copy())

    def _compile(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        import openvino
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        # Tracing may neither be in inference mode, whose tensors it cannot keep, nor in bf16.
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
            warnings.catch_warnings(),
        ):
            # Shapes become constants, as the tracer warns; they are part of the key.
            warnings.simplefilter("ignore", TracerWarning)
            warnings.simplefilter("ignore", DeprecationWarning)  # what OpenVINO reads is a trace
            example = tuple(tensor.clone() for tensor in inputs)
            traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
            # Not `convert_model`, which reports its use to OpenVINO's makers.
            frontend = FrontEndManager().load_by_framework("pytorch")
            decoder = TorchScriptPythonDecoder(traced, example_input=example)
            model = frontend.convert(frontend.load(decoder))
            for parameter, tensor in zip(model.get_parameters(), example, strict=True):
                parameter.set_partial_shape(openvino.PartialShape(list(tensor.shape)))
            model.validate_nodes_and_infer_types()
        return openvino.Core().compile_model(model, "CPU", self._settings)


class _Flat(nn.Module):
    """A generator whose features are arguments one by one."""

    def __init__(self, generator: nn.Module, kind: type[Features], names: list[str]) -> None:
        super().__init__()
        self.generator = generator
        self.kind = kind
        self.names = names

    def forward(self, x_t: Tensor, t: Tensor, *tensors: Tensor) -> Tensor:
        """The velocity."""
        named: dict[str, Any] = dict(zip(self.names, tensors, strict=False))
        features = self.kind(embeddings=tensors[len(self.names) :], **named)
        velocity: Tensor = self.generator(x_t, t, features)
        return velocity


def torch_backend(model: SeparationModel, precision: str) -> SeparationModel:
    """The model with the network itself as its generator, whatever computes it until now."""
    generator = model.generator
    if isinstance(generator, OpenVinoGenerator):
        generator = generator.generator
    generator = getattr(generator, "_orig_mod", generator)  # of what torch compiled
    return model if generator is model.generator else with_generator(model, generator)


def with_generator(model: SeparationModel, generator: nn.Module) -> SeparationModel:
    """A model of the same parts but for the generator."""
    return SeparationModel(model.config, model.codec, model.conditioner, generator).eval()


def openvino_backend(model: SeparationModel, precision: str) -> SeparationModel:
    """A model of the same parts, its generator computed by OpenVINO.

    Raises:
        SolovoxError: if OpenVINO is not installed, or the model is not on the CPU.
    """
    if next(model.parameters()).device.type != "cpu":
        raise SolovoxError("the backend openvino computes on a CPU; use --device cpu")
    network = torch_backend(model, precision).generator
    return with_generator(model, OpenVinoGenerator(network, precision, torch.get_num_threads()))


def compiled_backend(model: SeparationModel, precision: str) -> SeparationModel:
    """A model of the same parts, its generator compiled by torch: for many songs, since the first
    chunk takes a minute or more; on CUDA its kernels are replayed as graphs."""
    network = torch_backend(model, precision).generator
    return with_generator(model, cast(nn.Module, torch.compile(network, mode="reduce-overhead")))


BACKENDS: dict[str, Callable[[SeparationModel, str], SeparationModel]] = {
    "torch": torch_backend,
    "openvino": openvino_backend,
    "compile": compiled_backend,
}
