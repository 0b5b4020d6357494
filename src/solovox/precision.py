"""Which numbers to compute in: bf16 where the machine is fast at it, 32 bits elsewhere.

Only networks run in bf16; audio, transforms, losses and sampling stay in 32 bits.
"""

import torch

PRECISIONS = ("auto", "bf16", "fp32")


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """The context in which networks run on a device.

    Args:
        device: where the networks are.
        precision: "bf16", "fp32", or "auto": bf16 on CPUs and GPUs that compute in it.
    """
    enabled = resolve(device, precision) == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def resolve(device: torch.device, precision: str = "auto") -> str:
    """What `autocast` makes of a precision on a device: "bf16" or "fp32"."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision}")
    if precision == "auto":
        return "bf16" if _is_fast(device) else "fp32"
    return precision


def _is_fast(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device.type == "cpu" and bool(has_bf16())
