"""A convolution for inference alone: its weights laid out once for this CPU, bias, addition and ReLU in the same pass.

Ordinary `conv2d` lays the weights out anew at every call, which costs a quarter of the time at one image a call. The
operators used here are those that torch.compile itself puts into its code for a CPU; where they do not exist, and on a
GPU, the same result comes from `conv2d`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ssn_core.padding import pad_edges
from ssn_core.recipe_settings import Padding
from ssn_core.rounding import rounded_kernel

_ordinary: ContextVar[bool] = ContextVar("ordinary", default=False)


@contextmanager
def ordinary_convolutions() -> Iterator[None]:
    """What is made inside is written with `conv2d`, for compilers and runtimes, which pack weights themselves."""
    before = _ordinary.set(True)
    try:
        yield
    finally:
        _ordinary.reset(before)


class PackedConv:
    """y = relu(conv(x) + bias + added), inference only.

    Args:
        weight: (out, in, h, w), any floating type; rounded to `dtype` here.
        bias: (out,) or None. Kept in float32 on a CPU, for it is added before the result is rounded.
        stride: of both axes.
        padding: cells added to each side.
        edges: what is added: the continued edge, or zeros.
        relu: whether negative results become zero.
        size: (H, W) of an input, for the layout of the weights; other sizes work too.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: int = 1,
        padding: int = 0,
        edges: Padding = "zeros",
        relu: bool = False,
        size: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._stride, self._relu = [stride, stride], relu
        self._edge = padding if edges == "replicate" else 0  # cells that are continued before the convolution
        self._padding = [padding - self._edge] * 2
        laid = rounded_kernel(weight.detach(), dtype).to(device).contiguous(memory_format=torch.channels_last)
        self._native = device.type == "cpu" and _has_native(dtype)
        self._bias = None if bias is None else bias.detach().to(device, torch.float32 if self._native else dtype)
        if self._native:
            shape = [1, weight.shape[1], *(side + 2 * self._edge for side in size)]
            laid = _native()._reorder_convolution_weight(laid, self._padding, self._stride, [1, 1], 1, shape)
        self._weight = laid

    def __call__(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """(B, in, H, W) of the right dtype, channels last -> (B, out, h, w), channels last.

        Args:
            added: of the result's shape, may be overwritten with the result.
        """
        if self._edge:
            x = pad_edges(x, self._edge, "replicate")
        y: Tensor
        if not self._native:
            y = F.conv2d(x, self._weight, self._bias, self._stride, self._padding)
            y = y if added is None else y.add_(added)
            return y.relu_() if self._relu else y
        fixed = (x, self._weight, self._bias, self._padding, self._stride, [1, 1], 1)
        after = "relu" if self._relu else None
        if added is None:
            y = _native()._convolution_pointwise(*fixed, after or "none", [], "")
        elif self._bias is None or self._bias.dtype == x.dtype:
            y = _native()._convolution_pointwise_.binary(added, *fixed, "add", 1.0, after, [], "")
        else:  # that operator would want the bias in few bits, which doubles the error of the score
            y = _native()._convolution_pointwise(*fixed, "none", [], "").add_(added)
            y = y.relu_() if self._relu else y
        return y


def _native() -> Any:
    return torch.ops.mkldnn


def _has_native(dtype: torch.dtype) -> bool:
    if _ordinary.get() or (dtype == torch.bfloat16 and not _packs_bfloat16()):
        return False
    wanted = ("_reorder_convolution_weight", "_convolution_pointwise", "_convolution_pointwise_")
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch has no types here
    return built and all(hasattr(torch.ops.mkldnn, name) for name in wanted)


def _packs_bfloat16() -> bool:
    """Whether these operators take bfloat16 on this CPU; without AVX-512 or a substitute for it they refuse."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def folded_norm(weight: Tensor, bias: Tensor | None, norm: torch.nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """A convolution's weight and bias with the batch norm after it folded in (eval mode), float64, on the CPU."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("A batch norm without running statistics cannot be folded")
    scale = exactly(norm.weight) / torch.sqrt(exactly(norm.running_var) + norm.eps)
    shift = -exactly(norm.running_mean) if bias is None else exactly(bias) - exactly(norm.running_mean)
    return exactly(weight) * scale[:, None, None, None], exactly(norm.bias) + shift * scale


def exactly(values: Tensor) -> Tensor:
    """The values as float64 on the CPU, for computations that are done once."""
    return values.detach().cpu().double()
