"""``Runtime``: frames in, ``Detections`` out, from the artifact alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter_ns, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from ..artifact import Artifact
from ..detections import Detections, Timing
from ..errors import BackendError, InputError
from ..frame import Color, Frame
from ..manifest import Manifest
from ..postprocess import Postprocessor
from ..preprocess import Preprocessor
from ..thresholds import Thresholds
from .backend import Backend, prepares_frames
from .cores import physical_cores
from .opening import check_tensors, open_engine, warn_of_saturation
from .stream import Stream
from .workers import Workers, closed_error
from .workspace import Workspaces

if TYPE_CHECKING:
    from .openvino_backend import Hint

__all__ = ["Runtime"]

_NO_WAIT = nullcontext()
_alive: WeakSet[Runtime] = WeakSet()
_inherited: list[object] = []


class Runtime:
    """A loaded detector.

    Everything about input and outputs comes from the manifest. The engine is opened, checked against the manifest
    and warmed up here, so that the first frame is as fast as the others.

    Threads: every method may be called from any thread at any time, and results do not depend on what else runs.
    ``close`` waits for the frames that were handed to ``submit``; a call in another thread finishes or, like every
    later call, raises ``BackendError``. Callbacks of a future run in threads of the Runtime: see ``submit``.

    Processes: a Runtime belongs to the process that opened it, because engines do not survive a fork: a forked
    child that calls it gets a ``BackendError`` instead of a deadlock. Open one in each process. A child of ``os.fork``
    should end with ``os._exit``, as those of ``multiprocessing`` do: engines wait for their threads otherwise.

    Memory: a frame is only read, never kept longer than its call, and never changed. With ``submit`` and ``stream`` it
    must stay unchanged until its result is there. Detections are the caller's own. Buffers for input and outputs are
    kept and used again, one set for each call that ever ran at the same time, so that memory stays flat after that.

    Args:
        source: An artifact or its directory, a lone ``.onnx`` or OpenVINO ``.xml`` file with an embedded manifest or
            exported by Ultralytics, or a ``.safetensors`` checkpoint, which runs in PyTorch. TensorRT engines run from
            their artifact. Of a Core ML package for several sizes, the path may go on with a function's name:
            ``best.mlpackage/size_320x320``; else its first size opens.
        device: As the engine names it: ``"cpu"``, ``"cuda"``, ``"tensorrt"``, ``"coreml"`` or ``"openvino"`` (ONNX
            Runtime's execution providers) for ONNX, ``"cpu"`` or ``"cuda"`` for PyTorch, ``"cpu"``, ``"gpu"``,
            ``"gpu.1"`` or ``"npu"`` for OpenVINO, ``"cuda"`` or ``"cuda:1"`` for TensorRT. It is used or refused;
            ``"auto"`` takes the best that the engine can start (``runtime.device`` says which).
        threads: CPU threads of one inference; None takes the physical cores that this process may use.
        warmup: Inferences on a grey image before the constructor returns.
        hint: OpenVINO only: ``"latency"``, or ``"throughput"`` to get most done with ``batch`` and ``stream``, or for
            calls from several threads.
        cache: ONNX, OpenVINO, and TensorRT artifacts whose engine is built here: folder where compiled models are kept,
            to load faster next time. It is trusted. Engines of TensorRT go into the user's cache if it is None.

    Attributes:
        manifest: What the model is, and how it is fed and read.
        preprocessor: Frame → network input and letterbox.
        postprocessor: Outputs and letterboxes → ``Detections``.
        device: What the model really runs on.
        engine: The engine and its version.
        threads: CPU threads of one inference.

    Raises:
        InputError: If the source is missing or of no kind named above, or an option is out of range.
        ArtifactError: If the artifact is damaged, or the engine's inputs and outputs are not those of the manifest.
        CheckpointError: If a checkpoint is not usable.
        BackendError: If the device is not to be had.
        MissingDependencyError: If the engine's package is not installed.
    """

    def __init__(
        self,
        source: Artifact | str | Path,
        *,
        device: str = "auto",
        threads: int | None = None,
        warmup: int = 2,
        hint: Hint = "latency",
        cache: str | Path | None = None,
    ) -> None:
        if threads is not None:
            _whole("threads", threads, 1, max(64, 4 * (os.cpu_count() or 1)))  # thousands bring a machine to its knees
        _whole("warmup", warmup, 0, 1000)
        if not isinstance(device, str):
            raise InputError(f"device is a {type(device).__name__}", expected="its name, such as 'cpu'")
        folder = None if cache is None else Path(cache)
        self._take(*open_engine(source, device.lower(), threads, hint, folder), warmup)

    @classmethod
    def of(cls, backend: Backend, manifest: Manifest, *, warmup: int = 2) -> Runtime:
        """Return a Runtime on an engine that is open already; it closes the engine, also if it is refused.

        Args:
            backend: The engine, with the model loaded.
            manifest: What the model is.
            warmup: Inferences on a grey image before this returns.

        Raises:
            ArtifactError: If the engine's inputs and outputs are not those of the manifest.
            BackendError: If the engine fails.
        """
        runtime = cls.__new__(cls)
        runtime._take(backend, manifest, warmup)
        return runtime

    def _take(self, backend: Backend, manifest: Manifest, warmup: int) -> None:
        """Check the engine against the manifest, warm it up, and make it this Runtime's own."""
        self._process = os.getpid()
        self._backend = backend
        self._closed = False
        self._pools: list[Workspaces] = []  # smallest batch first
        self.manifest = manifest
        self._thresholds = Thresholds().within(manifest.nms_iou)
        try:
            pixels = check_tensors(backend, manifest)
            warn_of_saturation(backend, manifest)
            self.preprocessor = Preprocessor(manifest.input, pixels=pixels)
            self.postprocessor = Postprocessor(manifest)
            self._receive = backend.receive if prepares_frames(backend, manifest.input) else None
            self.device = backend.device
            self.engine = backend.name
            self.threads = backend.threads
            self._parallel = max(1, backend.parallel)
            # One more worker prepares a frame meanwhile, unless the engine has all cores: then it would only be in its
            # way, measured to cost 2 to 5 % of the throughput.
            full = backend.device.startswith("cpu") and backend.threads * self._parallel >= physical_cores()
            self._worker_count = self._parallel + (0 if full else 1)
            self._engine_room = threading.BoundedSemaphore(self._parallel)
            self._workers = Workers(self._worker_count, size=2 * self._worker_count, finish=self._let_go)
            spec = manifest.input
            least = spec.batch if spec.min_batch is None else spec.min_batch
            grey = np.full((spec.height, spec.width, 3), spec.pad_value, np.uint8)
            for batch in sorted({least, spec.batch}):
                self._pools.append(Workspaces(backend, self.preprocessor, manifest, batch))
                self._warm_up(self._pools[-1], grey, warmup)
            self._single, self._group = self._pools[0], self._pools[-1]
            _alive.add(self)
        except BaseException:
            self._let_go()
            raise

    def __call__(
        self,
        frame: npt.NDArray[Any] | Frame,
        *,
        color: Color = "bgr",
        thresholds: Thresholds | None = None,
    ) -> Detections:
        """Detect objects in one frame.

        Args:
            frame: uint8, shape (height, width, 3), BGR, any size, views of any layout; or a ``Frame`` of such. TensorRT
                also takes arrays on its GPU, by DLPack or the CUDA array interface, and copies nothing; what their
                library's current stream in this thread still does to them is waited for.
            color: What the frame really is, if not BGR.
            thresholds: What to keep; None is ``Thresholds()``, with the IoU of a model that suppresses by itself.

        Returns:
            Objects in pixels of the frame, best first, with timing and stamp.

        Raises:
            InputError: If the frame is not such an image.
            BackendError: If the runtime is closed or belongs to another process, or the engine fails.
        """
        self._check_open()
        return self._detect((frame,), color, thresholds, perf_counter_ns(), time_ns(), _NO_WAIT)[0]

    def batch(
        self,
        frames: Iterable[npt.NDArray[Any] | Frame],
        *,
        color: Color = "bgr",
        thresholds: Thresholds | None = None,
    ) -> list[Detections]:
        """Detect objects in several frames, which may differ in size.

        A model of batch 1 takes one frame at a time, others as many at a time as they can; while it does, others are
        prepared and read out. ``timing`` of frames that the model took together is that of all of them.

        Args:
            frames: Each as in a single call.
            color: What the frames really are, if not BGR.
            thresholds: What to keep; None is ``Thresholds()``, with the IoU of a model that suppresses by itself.

        Returns:
            One ``Detections`` a frame, in their order.

        Raises:
            InputError: If a frame is not such an image; no result is returned then.
            BackendError: As for a single call; or in a callback of a result, which would wait for itself.
        """
        self._refuse_inside("batch")
        futures: list[Future[list[Detections]]] = []
        try:
            for group in self._groups(_iterator(frames)):
                futures.append(self._submit(group, color, thresholds))
            return [found for future in futures for found in future.result()]
        except BaseException:
            for future in futures:
                future.cancel()
            wait(futures)  # the frames are the caller's again
            raise

    def submit(
        self,
        frame: npt.NDArray[Any] | Frame,
        *,
        color: Color = "bgr",
        thresholds: Thresholds | None = None,
    ) -> Future[Detections]:
        """Hand in one frame and go on; waits only while the queue is full, so that memory and latency are bounded.

        Args:
            frame: As in a call; it must not change until its result is there.
            color: What the frame really is, if not BGR.
            thresholds: What to keep; None is ``Thresholds()``, with the IoU of a model that suppresses by itself.

        Returns:
            The detections to come, or the ``InputError`` or ``BackendError`` to come. Its callbacks run in a thread of
            this Runtime, which does nothing else meanwhile; there, ``submit`` does not wait.

        Raises:
            BackendError: If the runtime is closed or belongs to another process.
        """
        self._check_open()
        received, now = perf_counter_ns(), time_ns()
        room, frame = self._engine_room, self._received(frame)
        return self._workers.submit(lambda: self._detect((frame,), color, thresholds, received, now, room)[0])

    def stream(
        self,
        frames: Iterable[npt.NDArray[Any] | Frame],
        *,
        drop: Literal["none", "oldest"] = "none",
        color: Color = "bgr",
        thresholds: Thresholds | None = None,
    ) -> Stream:
        """Detect objects in frame after frame; reading, preparing, inference and reading out overlap.

        Args:
            frames: Each as in a single call, from anything that can be iterated over: a source, a list, a generator.
                It is read in a thread of its own: arrays on a GPU that were made in others must be finished.
            drop: ``"none"`` looks at every frame, and reads no faster than that. ``"oldest"`` reads as fast as frames
                come and always looks at the newest, so that latency does not grow; ``Stream.dropped`` counts the rest.
            color: What the frames really are, if not BGR.
            thresholds: What to keep; None is ``Thresholds()``, with the IoU of a model that suppresses by itself.

        Returns:
            An iterator of ``(Frame, Detections)``, in order. What goes wrong with a frame is raised in its place, and
            the iteration may go on; what goes wrong with ``frames`` itself is raised at the end.

        Raises:
            InputError: If ``drop`` is neither, or ``frames`` cannot be iterated over.
            BackendError: If the runtime is closed or belongs to another process; or in a callback of a result, which
                would wait for itself.
        """
        if drop not in ("none", "oldest"):
            raise InputError(f"drop is {drop!r}", expected="'none' or 'oldest'")
        self._check_open()
        self._refuse_inside("stream")
        newest = drop == "oldest"
        # More frames than workers, so that none waits; with "oldest", a frame is taken when it is its turn.
        return Stream(
            lambda frame: self.submit(frame, color=color, thresholds=thresholds),
            _iterator(frames),
            newest=newest,
            depth=self._parallel if newest else self._worker_count + 2,
        )

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the engine alone, for measuring and comparing.

        Args:
            feeds: What ``preprocessor`` makes of a frame, by the name of the input.

        Returns:
            The raw outputs by name, the caller's own.

        Raises:
            BackendError: If the runtime is closed or belongs to another process, or the engine fails.
        """
        self._check_open()
        if not isinstance(feeds, Mapping) or not all(isinstance(value, np.ndarray) for value in feeds.values()):
            raise BackendError("the feeds are no arrays by name", expected="{name of the input: array}")
        return self._backend.infer(feeds)

    def close(self) -> None:
        """Finish what was handed in, and let go of the engine; may be called twice, from any thread.

        It returns when that is done, except in a callback of a result: there it returns at once.
        """
        if os.getpid() == self._process:
            self._closed = True
            self._workers.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        model = self.manifest.scale or "detector"
        return f"<Runtime: {model} {self.manifest.precision}, {self.engine} on {self.device}, {self.threads} threads>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise BackendError(
            "a Runtime cannot be sent to another process", remedy="send the path of the artifact, and open it there"
        )

    def _submit(
        self, frames: Sequence[npt.NDArray[Any] | Frame], color: Color, thresholds: Thresholds | None
    ) -> Future[list[Detections]]:
        self._check_open()
        received, now = perf_counter_ns(), time_ns()
        room, frames = self._engine_room, [self._received(frame) for frame in frames]
        return self._workers.submit(lambda: self._detect(frames, color, thresholds, received, now, room))

    def _received(self, frame: npt.NDArray[Any] | Frame) -> npt.NDArray[Any] | Frame:
        """Return a frame that a worker may take; what is wrong with it is said when its turn comes."""
        if self._receive is None:
            return frame
        image = frame.image if isinstance(frame, Frame) else frame
        try:
            received = self._receive(image)
        except InputError:
            return frame
        if received is image:
            return frame
        return replace(frame, image=received) if isinstance(frame, Frame) else received

    def _groups(self, frames: Iterator[npt.NDArray[Any] | Frame]) -> Iterator[Sequence[npt.NDArray[Any] | Frame]]:
        """Cut frames into what the model takes at a time: if less than half of a batch is left, smaller batches."""
        while group := list(islice(frames, self._group.batch)):
            step = self._group.batch if 2 * len(group) >= self._group.batch else self._single.batch
            for begin in range(0, len(group), step):
                yield group[begin : begin + step]

    def _detect(
        self,
        frames: Sequence[npt.NDArray[Any] | Frame],
        color: Color,
        thresholds: Thresholds | None,
        received: int,
        now: int,
        engine_room: AbstractContextManager[object],
    ) -> list[Detections]:
        """Take frames through all stages, together.

        Args:
            frames: Each as in a call; no more than the model takes at a time.
            color: As in a call.
            thresholds: As in a call.
            received: When the frames were handed in, by the monotonic clock.
            now: The same by the wall clock.
            engine_room: Held while the engine runs.
        """
        if thresholds is None:
            thresholds = self._thresholds
        if not isinstance(thresholds, Thresholds):
            raise InputError(f"thresholds is a {type(thresholds).__name__}", expected="Thresholds(…)")
        begun = perf_counter_ns()
        workspaces = self._single if len(frames) <= self._single.batch else self._group
        workspace = workspaces.take()
        try:
            letterboxes = [
                workspace.fill(frame.image if isinstance(frame, Frame) else frame, color, index)
                for index, frame in enumerate(frames)
            ]
            prepared = perf_counter_ns()
            with engine_room:
                entered = perf_counter_ns()
                workspace.run()
            inferred = perf_counter_ns()
            found = self.postprocessor(workspace.outputs, letterboxes, thresholds)
        finally:
            workspaces.give_back(workspace)
        timing = Timing(
            pre_ms=(prepared - begun) / 1e6,
            infer_ms=(inferred - entered) / 1e6,
            post_ms=(perf_counter_ns() - inferred) / 1e6,
            queue_ms=(begun - received + entered - prepared) / 1e6,
        )
        return [
            replace(detections, timing=timing, stamp_ns=now if (stamp := _stamp_of(frame)) is None else stamp)
            for frame, detections in zip(frames, found, strict=True)
        ]

    def _warm_up(self, workspaces: Workspaces, grey: npt.NDArray[np.uint8], count: int) -> None:
        workspace = workspaces.take()
        try:
            for index in range(workspaces.batch):
                workspace.fill(grey, "bgr", index)
            for _ in range(count):
                workspace.run()
        finally:
            workspaces.give_back(workspace)

    def _let_go(self) -> None:
        for workspaces in self._pools:
            workspaces.close()
        self._backend.close()

    def _refuse_inside(self, method: str) -> None:
        if self._workers.inside():
            raise BackendError(
                f"{method} was called in a callback of a result, where it would wait for itself",
                remedy="call runtime(frame) or submit there, or do it in a thread of your own",
            )

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error()
        if os.getpid() != self._process:
            raise BackendError(
                "this Runtime was opened by another process, and engines do not survive a fork",
                remedy="open a Runtime after the fork, or start processes with the method 'spawn'",
            )


def _stamp_of(frame: npt.NDArray[Any] | Frame) -> int | None:
    return frame.stamp_ns if isinstance(frame, Frame) else None


def _iterator(frames: Iterable[npt.NDArray[Any] | Frame]) -> Iterator[npt.NDArray[Any] | Frame]:
    try:
        return iter(frames)
    except TypeError as error:
        raise InputError(
            f"frames is a {type(frames).__name__}", expected="something to iterate over, such as a list or a source"
        ) from error


def _whole(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"{name} is {value!r}", expected=f"a whole number from {least} to {most}")


def _keep_after_fork() -> None:
    """Let a forked child never destroy an inherited engine: it would wait for threads that the child does not have."""
    _inherited.extend((runtime._backend, runtime._pools) for runtime in _alive)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_after_fork)
