"""Where to compute, and in what way it is fastest there."""

from typing import Literal

import torch

from edge_embed.train.recipe import LoopSettings
from edge_embed_runtimes.device.probe import read_device

Attention = Literal["sdpa", "eager"]
_BF16_FEATURES = {"avx512_bf16", "amx_bf16"}


def device() -> torch.device:
    """Where to compute: the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fastest_attention() -> Attention:
    """The attention to train with: on a processor PyTorch's fused one is half as fast in bfloat16 as the plain one."""
    return "sdpa" if torch.cuda.is_available() else "eager"


def use_bf16(settings: LoopSettings) -> bool:
    """Whether to compute in bfloat16: as asked, or where the device has instructions for it."""
    if settings.precision != "auto":
        return settings.precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return not _BF16_FEATURES.isdisjoint(read_device().features)
