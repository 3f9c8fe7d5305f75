"""Frames on the GPU: the CUDA array interface and DLPack, from hand-made capsules and from arrays of the CPU."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.dlpack import ADDRESS, Maker
from yolo12edge.errors import InputError
from yolo12edge.runtimes.cuda.device_array import device_array, is_on_device

STREAM = 0x7000

_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))


class Interface:
    def __init__(self, **changes: Any) -> None:
        whole = {
            "version": 3,
            "shape": (4, 6, 3),
            "typestr": "|u1",
            "data": (ADDRESS, False),
            "strides": None,
            **changes,
        }
        self.__cuda_array_interface__ = {name: value for name, value in whole.items() if value != "absent"}


def take(frame: Any, device: int = 0):
    return device_array(frame, stream=STREAM, device=device)


def test_dlpack_is_taken_once_and_given_back_once():
    maker = Maker(strides=(32, 3, 1), offset=16)
    found = take(maker)
    assert (found.address, found.shape, found.pitch) == (ADDRESS + 16, (4, 6, 3), 32)
    assert (found.device, found.stream, maker.streams) == (0, None, [STREAM])
    gc.collect()
    assert maker.deleted == 0
    del found
    gc.collect()
    assert maker.deleted == 1


def test_a_capsule_can_be_taken_once():
    maker = Maker()
    capsule = maker.capsule()
    assert is_on_device(capsule)
    found = take(capsule)
    assert _name(capsule) == b"used_dltensor"
    with pytest.raises(InputError, match="taken once"):
        take(capsule)
    del capsule, found
    gc.collect()
    assert maker.deleted == 1


def test_what_is_refused_stays_with_its_maker():
    maker = Maker(code=2, bits=32)
    capsule = maker.capsule()
    with pytest.raises(InputError, match="float32"):
        take(capsule)
    assert _name(capsule) == b"dltensor"
    assert maker.deleted == 0


def test_a_maker_without_deleter_is_fine():
    maker = Maker()
    maker.managed.deleter = None
    found = take(maker)
    del found
    assert maker.deleted == 0


@pytest.mark.parametrize(
    ("changes", "shape", "pitch"),
    [
        ({}, (4, 6, 3), 18),
        ({"shape": (4, 6)}, (4, 6, 1), 6),
        ({"shape": (4, 6), "strides": (64, 1)}, (4, 6, 1), 64),
        ({"shape": (4, 6, 4), "strides": (24, 4, 1)}, (4, 6, 4), 24),
        ({"shape": (1, 6, 3), "strides": (-7, 3, 1)}, (1, 6, 3), 18),  # never used
        ({"shape": (4, 1, 3), "strides": (3, 0, 1)}, (4, 1, 3), 3),
        ({"shape": (4, 6, 1), "strides": (6, 1, 99)}, (4, 6, 1), 6),
    ],
)
@pytest.mark.parametrize("make", [Maker, Interface])
def test_layouts(make, changes, shape, pitch):
    found = take(make(**changes))
    assert (found.address, found.shape, found.pitch) == (ADDRESS, shape, pitch)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (3, 4, 6)}, "channels last"),
        ({"shape": (1, 4, 6, 3)}, "one frame after the other"),
        ({"shape": (18,)}, "has shape (18,)"),
        ({"shape": ()}, "has shape ()"),
        ({"shape": (0, 6, 3)}, "is empty"),
        ({"shape": (4, -6, 3)}, "is empty"),
        ({"shape": (4, 6, 2)}, "has shape (4, 6, 2)"),
        ({"strides": (-18, 3, 1)}, "strides (-18, 3, 1)"),
        ({"strides": (18, -3, 1)}, "contiguous"),
        ({"strides": (18, 4, 1)}, "contiguous"),
        ({"strides": (1, 4, 24)}, "contiguous"),
        ({"strides": (17, 3, 1)}, "contiguous"),
        ({"strides": (0, 3, 1)}, "contiguous"),
    ],
)
@pytest.mark.parametrize("make", [Maker, Interface])
def test_other_layouts_are_refused(make, changes, message):
    with pytest.raises(InputError) as caught:
        take(make(**changes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": 1}, "the CPU"),
        ({"kind": 3}, "page-locked"),
        ({"kind": 10}, "ROCm"),
        ({"kind": 77}, "DLPack type 77"),
        ({"index": 1}, "CUDA device 1"),
        ({"code": 0}, "int8"),
        ({"bits": 16}, "uint16"),
        ({"lanes": 4}, "uint8x4"),
        ({"data": 0}, "address 0x0"),
        ({"data": None}, "address 0x0"),
    ],
)
def test_other_memory_is_refused(changes, message):
    maker = Maker(**changes)
    for frame in (maker, maker.capsule()):
        with pytest.raises(InputError) as caught:
            take(frame)
        assert message in str(caught.value)
    assert maker.deleted == 0


def test_managed_memory_is_for_every_device():
    assert take(Maker(kind=13, index=0), device=1).device == 0
    assert take(Maker(index=1), device=1).device == 1


def test_dead_capsules_are_refused():
    for frame in (Maker().capsule(b"used_dltensor"), Maker().capsule(b"dltensor_versioned")):
        with pytest.raises(InputError, match="no DLPack capsule"):
            take(frame)


def test_a_maker_that_fails_is_an_input_error():
    class Fails(Maker):
        def __dlpack__(self, *, stream):
            raise BufferError("it requires a gradient")

    class Lies(Maker):
        def __dlpack__(self, *, stream):
            return "no capsule"

    class Mute(Maker):
        def __dlpack_device__(self):
            raise RuntimeError("not now")

    for frame, message in ((Fails(), "requires a gradient"), (Lies(), "no DLPack capsule"), (Mute(), "where it lies")):
        with pytest.raises(InputError, match=message):
            take(frame)
    assert not is_on_device(Mute())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1}, "version 1"),
        ({"typestr": "<f4"}, "'<f4'"),
        ({"typestr": "|i1"}, "'|i1'"),
        ({"mask": object()}, "mask"),
        ({"stream": 0}, "stream 0"),
        ({"stream": -1}, "stream -1"),
        ({"stream": 2**64}, "stream 18446744073709551616"),
        ({"data": (0, False)}, "address 0x0"),
        ({"data": "absent"}, "cannot be read"),
        ({"shape": None}, "cannot be read"),
        ({"strides": (18, 3)}, "has shape"),
    ],
)
def test_other_interfaces_are_refused(changes, message):
    with pytest.raises(InputError) as caught:
        take(Interface(**changes))
    assert message in str(caught.value)


def test_an_interface_tells_which_stream_to_wait_for():
    assert take(Interface(stream=None)).stream is None
    assert take(Interface(stream=2)).stream == 2
    assert take(Interface(stream=0xABC0)).stream == 0xABC0
    assert take(Interface(version=2)).stream == 1  # it cannot say: the default stream
    frame = Interface()
    assert take(frame).keep_alive is frame
    assert take(frame).device is None


def test_dlpack_goes_before_the_interface():
    """Since it makes the stream wait for what is still computed, whatever stream that is in."""
    maker = Maker()
    maker.__cuda_array_interface__ = Interface().__cuda_array_interface__
    take(maker)
    assert maker.streams == [STREAM]


def test_arrays_of_the_cpu_are_none_of_the_device():
    picture = np.zeros((4, 6, 3), np.uint8)
    assert not is_on_device(picture)
    assert not is_on_device([1])
    assert is_on_device(Maker())
    assert is_on_device(Interface())
    assert not is_on_device(Maker(kind=1))
    with pytest.raises(InputError, match=r"the CPU.*numpy\.from_dlpack"):
        take(picture)
    with pytest.raises(InputError, match="is a list"):
        take([1])


def test_tensors_of_pytorch_on_the_cpu():
    torch = pytest.importorskip("torch")
    for tensor in (torch.zeros(4, 6, 3, dtype=torch.uint8), torch.zeros(4, requires_grad=True)):
        assert not is_on_device(tensor)
        with pytest.raises(InputError, match="the CPU"):
            take(tensor)


numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-4, 40))


@settings(max_examples=300)
@given(
    shape=st.lists(numbers, max_size=5),
    strides=st.none() | st.lists(numbers, max_size=5),
    offset=st.integers(0, 2**64 - 1) | st.just(0),
    code=st.integers(0, 255) | st.just(1),
    bits=st.integers(0, 255) | st.just(8),
    kind=st.integers(-5, 300) | st.just(2),
)
def test_any_capsule_is_taken_or_an_input_error(shape, strides, offset, code, bits, kind):
    if strides is not None:
        strides = (strides + [1] * 5)[: len(shape)]
    maker = Maker(tuple(shape), strides, offset=offset, code=code, bits=bits, kind=kind)
    try:
        found = take(maker.capsule())
    except InputError:
        assert maker.deleted == 0
        return
    assert min(found.shape) >= 1
    assert found.shape[2] in (1, 3, 4)
    assert found.pitch >= found.shape[1] * found.shape[2]
    del found
    gc.collect()
    assert maker.deleted == 1


anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=3),
    lambda inner: st.tuples(inner, inner) | st.lists(inner, max_size=3),
)


@settings(max_examples=300)
@given(changes=st.dictionaries(st.sampled_from(["version", "shape", "typestr", "data", "strides", "stream"]), anything))
def test_any_interface_is_taken_or_an_input_error(changes):
    try:
        found = take(Interface(**changes))
    except InputError:
        return
    assert found.pitch >= found.shape[1] * found.shape[2] >= 1
    assert found.address > 0
    assert found.stream is None or 0 < found.stream < 2**64
