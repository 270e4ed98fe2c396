"""A pretended CUDA device for machines without one: tensors that say ``cuda:0`` and compute on the CPU.

What CUDA refuses is refused (tensors of two devices in one operation, a CPU generator for a draw on the device, a CPU
tensor indexed by one on the device); what makes a GPU wait (values read on the host) and copies between host and
device are counted by source line. Speed, memory and the digits of CUDA's kernels are not shown.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda:0")
_NBKIT = str(Path(__file__).parents[2] / "nbkit")
_CROSS = {"copy_", "_to_copy", "_foreach_copy_", "lift_fresh"}
"""Operations that take tensors of both devices."""
_READS = {"_local_scalar_dense", "is_nonzero", "equal"}
_SIZED_BY_VALUES = {"nonzero", "masked_select", "unique_dim", "_unique2", "unique_consecutive", "bincount"}
_INDEX = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}


class MixedDevices(RuntimeError):
    """What CUDA would refuse."""


@dataclass
class Traffic:
    """How often each source line read a value on the host, sent to the device, or fetched from it."""

    syncs: Counter = field(default_factory=Counter)
    sent: Counter = field(default_factory=Counter)
    fetched: Counter = field(default_factory=Counter)

    def copy(self) -> Traffic:
        """As it stands now."""
        return Traffic(*(Counter(c) for c in (self.syncs, self.sent, self.fetched)))

    def since(self, before: Traffic) -> Traffic:
        """What came after `before`."""
        return Traffic(self.syncs - before.syncs, self.sent - before.sent, self.fetched - before.fetched)


class OnGpu(torch.Tensor):
    """A tensor that says it is on the device; `held` has the values."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=GPU,
        )
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"OnGpu({self.held!r})"

    def tolist(self) -> Any:
        """Python values, as the C++ method cannot give them for a wrapped tensor."""
        return self.detach().cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class _Device(TorchDispatchMode):
    """Takes what is made on the device from nothing."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


_TRAFFIC = Traffic()
"""Of the device of this process."""



def _run(function, args, kwargs):
    name = function.overloadpacket.__name__
    leaves = [*_leaves(args), *_leaves(kwargs.values())]
    gpu = [x for x in leaves if isinstance(x, OnGpu)]
    cpu = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, OnGpu)]
    asked = next((x for x in leaves if isinstance(x, torch.device)), None)
    there = asked.type == "cuda" if asked is not None else bool(gpu)
    if gpu and cpu:
        _check(name, args, cpu)
    _check_generators(name, leaves, there)
    _count(name, args, gpu, cpu, asked)
    given = {id(x.held): x for x in gpu}
    host = {key: _host(value) for key, value in kwargs.items()}
    if host.get("pin_memory"):
        host["pin_memory"] = False
    made = _convolved(function, _host(args)) if "convolution" in name else function(*_host(args), **host)
    if torch.Tag.inplace_view in function.tags and gpu:
        _follow(function, args, kwargs)
    return _wrapped(made, given) if there else made


def _convolved(function, args: tuple) -> Any:
    """In float32 throughout: oneDNN leaves parts of small bfloat16 gradients unwritten (nbkit/nets/conv.py)."""
    half = args[0].dtype == torch.bfloat16
    made = function(*(x.float() if half and isinstance(x, torch.Tensor) else x for x in args))
    if not half:
        return made
    back = tuple(x if x is None else x.bfloat16() for x in (made if isinstance(made, tuple) else (made,)))
    return back if isinstance(made, tuple) else back[0]


def _follow(function, args: tuple, kwargs: dict) -> None:
    """Give the tensor on the device the new shape of what it holds."""
    before = torch._C._meta_in_tls_dispatch_include()
    with no_dispatch():
        torch._C._set_meta_in_tls_dispatch_include(True)
        try:
            function(*args, **kwargs)
        finally:
            torch._C._set_meta_in_tls_dispatch_include(before)


def _leaves(values: Iterable) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _host(value: Any) -> Any:
    if isinstance(value, OnGpu):
        return value.held
    if isinstance(value, list | tuple):
        return type(value)(map(_host, value))
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _wrapped(value: Any, given: dict[int, OnGpu]) -> Any:
    if isinstance(value, torch.Tensor):
        return given[id(value)] if id(value) in given else OnGpu(value)
    if isinstance(value, list | tuple):
        return type(value)(_wrapped(item, given) for item in value)
    return value


def _check(name: str, args: tuple, cpu: list[torch.Tensor]) -> None:
    if name in _CROSS:
        return
    if name in _INDEX and isinstance(args[0], OnGpu):
        values = args[2] if len(args) > 2 else None
        if values is None or isinstance(values, OnGpu) or values.ndim == 0:
            return
    elif name not in _INDEX and all(x.ndim == 0 for x in cpu):
        return
    raise MixedDevices(f"{name}: tensors on cuda:0 and on cpu {[tuple(x.shape) for x in cpu]} at {_line()}")


def _check_generators(name: str, leaves: list[Any], there: bool) -> None:
    for generator in (x for x in leaves if isinstance(x, torch.Generator)):
        if (generator.device.type == "cuda") != there:
            raise MixedDevices(f"{name}: a generator of the {generator.device.type} at {_line()}")


def _count(name: str, args: tuple, gpu: list, cpu: list, asked: torch.device | None) -> None:
    if gpu and (name in _READS or name in _SIZED_BY_VALUES or name in _INDEX and _by_mask(args)):
        _TRAFFIC.syncs[_line()] += 1
    if name == "_to_copy" and asked is not None and bool(gpu) != (asked.type == "cuda"):
        (_TRAFFIC.fetched if gpu else _TRAFFIC.sent)[_line()] += 1
    elif gpu and cpu and name in _CROSS | _INDEX:
        (_TRAFFIC.sent if isinstance(args[0], OnGpu) else _TRAFFIC.fetched)[_line()] += 1


def _by_mask(args: tuple) -> bool:
    return any(isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1] or ())


def _line() -> str:
    """The innermost line of nbkit that led here."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(_NBKIT):
            return f"{frame.f_code.co_filename[len(_NBKIT) + 1:]}:{frame.f_lineno}"
        frame = frame.f_back
    return "tests"


def _no_grad_enter(self) -> None:
    self.before = torch.is_grad_enabled()
    torch.set_grad_enabled(self.before and not self.mode)


def _no_grad_exit(self, *_: Any) -> None:
    torch.set_grad_enabled(self.before)


@contextmanager
def pretended_gpu() -> Iterator[Traffic]:
    """Inside, ``torch.cuda.is_available()`` holds and ``device="cuda"`` is the pretended device; gives its traffic."""
    inference, cuda = torch.inference_mode, torch.cuda
    patches = [
        mock.patch.object(cuda, "_lazy_init", lambda: None), mock.patch.object(cuda, "is_available", lambda: True),
        mock.patch.object(cuda, "is_bf16_supported", lambda *_, **__: True),
        mock.patch.object(cuda, "device_count", lambda: 1), mock.patch.object(cuda, "current_device", lambda: 0),
        mock.patch.object(cuda, "is_current_stream_capturing", lambda: False),
        # tensors without a version counter cannot be wrapped
        mock.patch.object(inference, "__enter__", _no_grad_enter),
        mock.patch.object(inference, "__exit__", _no_grad_exit),
    ]
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        for patch in patches:
            patch.start()
        with _Device():
            yield _TRAFFIC
    finally:
        for patch in reversed(patches):
            patch.stop()
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_swap_module_params_on_conversion(swapped)
