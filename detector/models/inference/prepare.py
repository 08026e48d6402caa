"""A trained network made fast for inference, and run in batches of one fixed shape.

Batch norm is folded into the convolutions, ReLU fused with them, weights stored in the processor's
own blocks, maps kept channels-last in bfloat16 where that is fast; on a CPU pools and response
normalisation are compiled (native.py). The network given is not changed.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.errors import is_out_of_memory
from detector.hardware import has_fast_bfloat16
from detector.models.inception import ConvReLU, LocalResponseNorm, MaxPool
from detector.models.inference.folding import folded, halved
from detector.models.normalisation import CENTRED, Normalisation

Precision = Literal["float32", "bfloat16", "int8"]


def fastest_precision(device: torch.device | str) -> Precision:
    """bfloat16 where the device multiplies it in hardware, otherwise float32."""
    return "bfloat16" if has_fast_bfloat16(torch.device(device)) else "float32"


def prepare_for_inference(
    model: nn.Module,
    precision: Precision = "float32",
    normalisation: Normalisation = CENTRED,
    activation_ranges: Mapping[str, float] | None = None,
) -> nn.Module:
    """A copy of `model` that gives the same logits (to rounding) sooner; not for training.

    It takes centred crops of any float type and memory format, and gives float32 logits (or what
    else the network gives, such as a trunk's maps). "int8" is
    for a GoogLeNet whose activation ranges are known, on a CPU that has such products
    (quantised.py).
    """
    if precision == "int8":
        from detector.models.inference.int8 import QuantisedGoogLeNet

        return QuantisedGoogLeNet(model, activation_ranges, normalisation)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    model = copy.deepcopy(model).eval().requires_grad_(False)
    on_cpu = all(p.device.type == "cpu" for p in model.parameters())
    _replace(model, ConvReLU, lambda conv: FusedConvReLU(conv, dtype))
    if on_cpu:
        _replace(model, MaxPool, lambda pool: NativeMaxPool(pool) if pool.kernel == 3 else pool)
        _replace(model, LocalResponseNorm, NativeResponseNorm)
    model.to(memory_format=torch.channels_last).to(dtype)
    if hasattr(model, "classifier"):
        model.get_submodule("classifier").float()
    return Prepared(model, dtype, normalisation)


def _replace(model: nn.Module, kind: type, make: Callable[[Any], nn.Module]) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is kind:
                setattr(module, name, make(child))


class Prepared(nn.Module):
    """The network's own forward on converted input; the last layer stays in float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype, normalisation: Normalisation) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.normalisation = normalisation

    def forward(self, crops: Tensor) -> Tensor:
        return self.model(self._converted(crops)).float()

    def features(self, crops: Tensor) -> Tensor:
        """(N, F): what the last layer sees."""
        features: Any = self.model.features
        found: Tensor = features(self._converted(crops))
        return found.float()

    @property
    def classifier(self) -> nn.Module:
        """The last layer: features (N, F) to logits."""
        return self.model.get_submodule("classifier")

    def _converted(self, crops: Tensor) -> Tensor:
        return self.normalisation(crops).to(self.dtype, memory_format=torch.channels_last)


class FusedConvReLU(nn.Module):
    """Convolution, folded norm and ReLU: one operator on a CPU, two elsewhere."""

    weight: Tensor
    bias: Tensor

    def __init__(self, source: ConvReLU, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = (t.to(dtype) for t in folded(source.conv, source.bn))
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self.stride: list[int] = list(source.conv.stride)
        self.padding: Any = list(source.conv.padding)
        self.fused = _has_fused_convolution(self.weight)
        self.packed: tuple[torch.Size, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.fused:
            return F.relu(F.conv2d(x, self.weight, self.bias, self.stride, self.padding), True)
        packed = self.packed
        if packed is None or packed[0] != x.shape:
            # Blocked for this very shape: for another one oneDNN may reorder at every call.
            packed = self.packed = x.shape, self._packed(x)
        return torch.ops.mkldnn._convolution_pointwise(
            x, packed[1], self.bias, self.padding, self.stride, [1, 1], 1, "relu", [], ""
        )

    def _packed(self, x: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            self.weight, self.padding, self.stride, [1, 1], 1, list(x.shape)
        )
        return packed


def _has_fused_convolution(weight: Tensor) -> bool:
    """Whether this build of the framework has the operators that its own compiler uses on CPUs."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    probe = torch.ones(1, 1, 1, 1, dtype=weight.dtype)
    plain = [0, 0], [1, 1], [1, 1], 1
    try:
        packed = torch.ops.mkldnn._reorder_convolution_weight(probe, *plain, [1, 1, 1, 1])
        out = torch.ops.mkldnn._convolution_pointwise(probe, packed, None, *plain, "relu", [], "")
    except (RuntimeError, AttributeError, TypeError):
        return False
    return bool((out == 1).all())


def _bits(x: Tensor) -> Any:
    """A channels-last map (N, C, H, W) as the bits of its numbers, a NumPy view (N, H, W, C)."""
    kind = torch.int16 if x.dtype == torch.bfloat16 else torch.int32
    return x.permute(0, 2, 3, 1).view(kind).numpy()


class NativeMaxPool(nn.Module):
    """A 3x3 pool of a map without negative numbers, compiled."""

    def __init__(self, pool: MaxPool) -> None:
        super().__init__()
        from detector.models.inference import numba_operators as native

        self.stride, self.ceil = pool.stride, pool.ceil
        self.run = native.pool_in_place_of if pool.stride == 1 else native.pool_halving

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = x.shape
        if self.stride == 2:
            height, width = (halved(side, self.ceil) for side in (height, width))
        out = torch.empty(
            (batch, channels, height, width), dtype=x.dtype, memory_format=torch.channels_last
        )
        self.run(_bits(x), _bits(out))
        return out


class NativeResponseNorm(nn.Module):
    """LocalResponseNorm, compiled: one pass over each pixel's channels."""

    def __init__(self, norm: LocalResponseNorm) -> None:
        super().__init__()
        from detector.models.inference import numba_operators as native

        self.scale = float(norm.band[0, 0, 0, 0])
        self.run = native.response_norm

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        out = torch.empty_like(x)
        channels = x.shape[1]
        self.run(_bits(x).reshape(-1, channels), _bits(out).reshape(-1, channels), self.scale)
        return out


_RUNS = threading.Lock()
_running, _thread_count = 0, 1


@contextmanager
def _thread_count_kept() -> Iterator[None]:
    """A worker's own setting becomes the default of new threads: the first run reads what it was,
    for a thread that starts meanwhile sees the workers', and the last one puts it back.
    """
    global _running, _thread_count
    with _RUNS:
        if _running == 0:
            _thread_count = torch.get_num_threads()
        _running += 1
    try:
        yield
    finally:
        with _RUNS:
            _running -= 1
            torch.set_num_threads(_thread_count)


class FixedBatches:
    """Run a network over any number of crops, in batches of one shape, zeros filling the last one.

    On a CPU each batch is computed by one thread, `workers` of them side by side. So a crop's
    result depends neither on its company nor on the number of cores (and maps of a few crops stay
    in a core's cache, which is faster than many threads in each operator).
    """

    def __init__(self, model: nn.Module, *, batch_size: int, workers: int = 1) -> None:
        if batch_size < 1 or workers < 1:
            raise ValueError(f"batch_size {batch_size} and workers {workers} must be at least 1")
        self.model = model
        self.batch_size = batch_size
        parameter = next(iter(model.state_dict().values()))
        self.device = parameter.device
        self._halving, self._alone = threading.Lock(), threading.Lock()
        self.pool: ThreadPoolExecutor | None = None
        if self.device.type == "cpu":
            self.pool = ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1))

    def __call__(self, crops: Tensor, function: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """(N, 3, S, S) to (N, ...) on the CPU: `function` (or else the network) of each batch.

        Where memory runs out, the same crops are tried again in batches of half the size, which
        then stays; results may differ from before by rounding. At last one crop is tried after the
        other, by one thread at a time. Raises MemoryError if that is too much.
        """
        function = self.model if function is None else function
        alone = False
        while True:
            size = self.batch_size  # of this try, whatever other threads make of it meanwhile
            try:
                return self._run(crops, function, size, alone=alone)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if alone:
                    raise MemoryError(f"one crop at a time does not fit: {error}") from error
            # Outside the handler, whose traceback would keep the tensors of the failed batch.
            alone = size == 1
            with self._halving:
                self.batch_size = min(self.batch_size, max(1, size // 2))
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _run(
        self, crops: Tensor, function: Callable[[Tensor], Tensor], size: int, *, alone: bool
    ) -> Tensor:
        batches = crops.split(size) if len(crops) else (crops,)
        compute = partial(self._compute, function, size)
        with _thread_count_kept(), self._alone if alone else nullcontext():
            if self.pool is None:
                results = list(map(compute, batches))
            elif alone:
                results = [self.pool.submit(compute, batch).result() for batch in batches]
            else:
                results = list(self.pool.map(compute, batches))
        return torch.cat(results)

    def _compute(self, function: Callable[[Tensor], Tensor], size: int, batch: Tensor) -> Tensor:
        count = len(batch)
        with torch.inference_mode():
            batch = batch.to(self.device)
            if count < size:
                batch = F.pad(batch, (0, 0) * 3 + (0, size - count))
            return function(batch)[:count].cpu()
