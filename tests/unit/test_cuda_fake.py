"""The fake CUDA of these tests: it waits as a device does, and sees what a program must not do."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable

import numpy as np
import pytest

from tests.fakes.cuda import FREED, GARBAGE, FakeCuda, FakeDevice, enqueue
from yolo12edge.errors import BackendError
from yolo12edge.runtimes.cuda.driver import Cuda

PTX = b"""//
.version 8.0
.visible .entry scale(
    .param .u64 .ptr .global .align 1 a,
    .param .u32 b,
    .param .f32 c
)
.reqntid 32
{}
"""


@pytest.fixture
def cuda():
    return FakeCuda()


@pytest.fixture
def device(cuda):
    device = cuda.open(0)
    device.activate()
    return device


def test_it_is_a_cuda(cuda):
    whole: Cuda = cuda
    assert whole.device_count() == 1
    with pytest.raises(BackendError, match="no CUDA device 1"):
        whole.open(1)
    with pytest.raises(BackendError, match="NO_DEVICE"):
        FakeCuda(driver=False).device_count()


def test_work_is_done_when_somebody_waits(device):
    stream = device.stream()
    address, host = device.allocate(4), device.allocate_host(4, mapped=False)
    device.view(host.address, 4)[...] = (1, 2, 3, 4)
    begin, end = device.event(), device.event()
    device.copy_to_device(address, host.address, 4, stream)
    device.record(begin, stream)
    enqueue(
        stream, "infer", lambda: np.multiply(device.view(address, 4), 2, out=device.view(address, 4)), milliseconds=3
    )
    device.record(end, stream)
    device.copy_to_host(host.address, address, 4, stream)
    assert device.view(address, 4).tolist() == [GARBAGE] * 4
    with pytest.raises(BackendError, match="NOT_READY"):
        device.elapsed_ms(begin, end)
    device.synchronize(stream)
    assert device.view(host.address, 4).tolist() == [2, 4, 6, 8]
    assert device.elapsed_ms(begin, end) == 3
    done = [call[1] for call in device.cuda.calls if call[0] == "done"]
    assert done == ["copy_to_device", "event", "infer", "event", "copy_to_host"]


def test_a_stream_that_waits_for_an_event_has_the_other_do_so_much(device):
    copying, computing = device.stream(), device.stream()
    order: list[str] = []
    enqueue(copying, "upload", lambda: order.append("upload"))
    event = device.event()
    device.record(event, copying)
    enqueue(copying, "later", lambda: order.append("later"))
    device.wait(computing, event)
    enqueue(computing, "infer", lambda: order.append("infer"))
    device.synchronize(computing)
    assert order == ["upload", "infer"]
    device.wait(computing, device.event())  # one that was never recorded holds nothing up
    device.synchronize(computing)


def test_a_graph_does_again_what_was_captured(device):
    stream, counted = device.stream(), []
    device.begin_capture(stream)
    enqueue(stream, "infer", lambda: counted.append(1))
    graph = device.end_capture(stream)
    device.synchronize(stream)
    assert not counted
    for _ in range(3):
        device.launch_graph(graph, stream)
    device.synchronize(stream)
    assert len(counted) == 3


def test_captures_that_fail(device):
    stream = device.stream()
    device.begin_capture(stream)
    enqueue(stream, "infer", lambda: None, capture=False)
    with pytest.raises(BackendError, match="CAPTURE_UNSUPPORTED"):
        device.end_capture(stream)
    device.begin_capture(stream)
    with pytest.raises(BackendError, match="CAPTURE_UNSUPPORTED"):
        device.synchronize(stream)
    with pytest.raises(BackendError, match="INVALIDATED"):
        device.end_capture(stream)
    device.begin_capture(stream)
    with pytest.raises(BackendError, match="memory was allocated during a capture"):
        device.allocate(4)
    with pytest.raises(BackendError, match="INVALIDATED"):
        device.end_capture(stream)
    other = FakeCuda(graphs=False).open(0)
    other.activate()
    with pytest.raises(BackendError, match="does not bind CUDA graphs"):
        other.begin_capture(other.stream())


def test_mapped_memory_has_two_addresses(device):
    memory = device.allocate_host(8, mapped=True)
    assert memory.address != memory.device_address != 0
    device.view(memory.device_address, 8)[...] = range(8)
    assert device.view(memory.address, 2, np.uint32).tolist() == [0x03020100, 0x07060504]
    assert device.allocate_host(8, mapped=False).device_address == 0


def test_a_kernel_is_launched_by_its_name_with_its_arguments(device, monkeypatch):
    from tests.fakes import cuda as fakes

    seen = []
    monkeypatch.setitem(fakes.KERNELS, "scale", lambda device, text, grid, values: seen.append((grid, values)))
    stream, module = device.stream(), device.load_module(PTX)
    function = device.function(module, "scale")
    whole = {"grid": (2, 1, 1), "block": (32, 1, 1), "shared": 0, "stream": stream}
    device.launch(function, **whole, arguments=[("ptr", 16), ("i32", 3), ("f32", 0.1)])
    assert not seen
    device.synchronize(stream)
    assert seen == [((2, 1, 1), (16, 3, np.float32(0.1)))]
    for arguments in ([("ptr", 16), ("i32", 3)], [("ptr", 16), ("f32", 3), ("f32", 0.1)]):
        with pytest.raises(BackendError, match="scale takes"):
            device.launch(function, **whole, arguments=arguments)
    with pytest.raises(BackendError, match="INVALID_VALUE"):
        device.launch(function, **{**whole, "block": (2048, 1, 1)}, arguments=[("ptr", 16), ("i32", 3), ("f32", 0.1)])
    with pytest.raises(BackendError, match="blocks of 32 threads"):
        device.launch(function, **{**whole, "block": (64, 1, 1)}, arguments=[("ptr", 16), ("i32", 3), ("f32", 0.1)])
    with pytest.raises(BackendError, match="NOT_FOUND"):
        device.function(module, "sca")
    with pytest.raises(BackendError, match="INVALID_PTX"):
        device.load_module(b"rubbish")


def test_memory_runs_out():
    cuda = FakeCuda(out_of_memory_at=3)
    device = cuda.open(0)
    device.activate()
    kept = [device.allocate(1), device.allocate_host(1, mapped=False)]
    for _ in range(2):
        with pytest.raises(BackendError, match="OUT_OF_MEMORY"):
            device.allocate(1)
    device.free(kept[0])
    device.free_host(kept[1])
    device.close()
    cuda.check()


def test_a_sticky_error_stays_and_its_memory_is_nobodys_fault(device):
    stream, address = device.stream(), device.allocate(1)
    device.fail = "CUDA_ERROR_ILLEGAL_ADDRESS"
    device.copy_to_device(address, np.zeros(1, np.uint8).ctypes.data, 1, stream)
    for action in (
        lambda: device.synchronize(stream),
        lambda: device.allocate(1),
        lambda: device.free(address),
        lambda: device.destroy_stream(stream),
    ):
        with pytest.raises(BackendError, match="ILLEGAL_ADDRESS"):
            action()
    device.close()
    device.cuda.check()


def leave_everything(device: FakeDevice) -> None:
    device.stream(), device.event(), device.allocate(8), device.load_module(PTX)
    device.allocate_host(4, mapped=True)


def free_twice(device: FakeDevice) -> None:
    address = device.allocate(8)
    device.free(address)
    device.free(address)


def free_as_host(device: FakeDevice) -> None:
    memory = device.allocate_host(8, mapped=False)
    device.free(memory.address)


def free_before_the_copy(device: FakeDevice) -> None:
    address, stream, host = device.allocate(8), device.stream(), device.allocate_host(8, mapped=False)
    device.copy_to_device(address, host.address, 8, stream)
    device.free_host(host)


def copy_after_free(device: FakeDevice) -> None:
    address, stream = device.allocate(8), device.stream()
    device.free(address)
    device.copy_to_device(address, np.zeros(8, np.uint8).ctypes.data, 8, stream)


def write_after_free(device: FakeDevice) -> None:
    address = device.allocate(8)
    seen = device.view(address, 8)
    device.free(address)
    assert np.all(seen == FREED)
    seen[3] = 1


def write_beyond(device: FakeDevice) -> None:
    address = device.allocate(8)
    whole = np.lib.stride_tricks.as_strided(device.view(address, 8), (9,), (1,))
    whole[8] = 1
    device.free(address)


def copy_too_much(device: FakeDevice) -> None:
    address, stream, host = device.allocate(8), device.stream(), device.allocate_host(16, mapped=False)
    device.copy_to_device(address + 1, host.address, 8, stream)


def copy_too_much_of_the_host(device: FakeDevice) -> None:
    address, stream, host = device.allocate(16), device.stream(), device.allocate_host(8, mapped=False)
    device.copy_to_host(host.address, address, 9, stream)


def copy_to_pageable(device: FakeDevice) -> None:
    address, stream = device.allocate(8), device.stream()
    device.copy_to_host(np.zeros(8, np.uint8).ctypes.data, address, 8, stream)


def host_address_for_the_device(device: FakeDevice) -> None:
    memory, stream = device.allocate_host(8, mapped=True), device.stream()
    device.copy_to_device(memory.address, memory.address, 8, stream)


def stream_zero(device: FakeDevice) -> None:
    device.synchronize(0)


def default_stream(device: FakeDevice) -> None:
    device.copy_to_device(device.allocate(8), device.allocate_host(8, mapped=False).address, 8, 1)


def dead_stream(device: FakeDevice) -> None:
    stream = device.stream()
    device.destroy_stream(stream)
    device.synchronize(stream)


def dead_event(device: FakeDevice) -> None:
    event = device.event()
    device.destroy_event(event)
    device.record(event, device.stream())


def dead_graph(device: FakeDevice) -> None:
    stream = device.stream()
    device.begin_capture(stream)
    graph = device.end_capture(stream)
    device.destroy_graph(graph)
    device.launch_graph(graph, stream)


def dead_module(device: FakeDevice) -> None:
    module = device.load_module(PTX)
    function = device.function(module, "scale")
    device.unload_module(module)
    arguments = [("ptr", 1), ("i32", 1), ("f32", 1.0)]
    device.launch(function, grid=(1, 1, 1), block=(1, 1, 1), shared=0, stream=device.stream(), arguments=arguments)


def other_thread(device: FakeDevice) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            device.stream()
        except BackendError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    raise errors[0]


def after_close(device: FakeDevice) -> None:
    device.close()
    device.stream()


def forget_to_close(device: FakeDevice) -> None:
    pass


@pytest.mark.parametrize(
    ("misdeed", "problem"),
    [
        (leave_everything, "leaked: device memory of 8 bytes"),
        (leave_everything, "leaked: mapped memory of 4 bytes"),
        (leave_everything, "leaked: 1 stream(s)"),
        (leave_everything, "leaked: 1 event(s)"),
        (leave_everything, "leaked: 1 module(s)"),
        (free_twice, "was freed twice"),
        (free_as_host, "which is no device memory"),
        (free_before_the_copy, "freed that copy_to_device still had to use"),
        (copy_after_free, "copy_to_device of memory that was freed"),
        (write_after_free, "something wrote after"),
        (write_beyond, "something wrote beyond"),
        (copy_too_much, "1 bytes out of bounds"),
        (copy_too_much_of_the_host, "1 bytes out of bounds"),
        (copy_to_pageable, "not page-locked"),
        (host_address_for_the_device, "is no memory of the device"),
        (stream_zero, "used stream 0"),
        (default_stream, "stream of somebody else"),
        (dead_stream, "a stream that was destroyed"),
        (dead_event, "an event was used that was destroyed"),
        (dead_graph, "a graph that is not there was launched"),
        (dead_module, "was launched without its module"),
        (other_thread, "is not active"),
        (after_close, "stream after close"),
        (forget_to_close, "device 0 was not closed"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_misdeeds_are_seen(device, misdeed: Callable[[FakeDevice], None], problem):
    with contextlib.suppress(BackendError):
        misdeed(device)
    with pytest.raises(AssertionError, match=re.escape(problem)):
        device.cuda.check()


def test_who_gives_all_back_is_in_the_clear(device):
    stream, event, address = device.stream(), device.event(), device.allocate(8)
    memory = device.allocate_host(8, mapped=True)
    module = device.load_module(PTX)
    device.begin_capture(stream)
    graph = device.end_capture(stream)
    device.record(event, 1)  # CUDA's default stream, of somebody else, may be waited for
    device.wait(stream, event)
    device.synchronize(stream)
    device.destroy_graph(graph)
    device.unload_module(module)
    device.destroy_event(event)
    device.free(address)
    device.free_host(memory)
    device.destroy_stream(stream)
    device.close()
    device.close()
    device.cuda.check()
