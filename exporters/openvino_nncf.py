"""NNCF's own quantization of the same model, as one more candidate where ``nncf`` is installed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..artifact import Artifact
from ..calibration.graph import Graph, group_of, head_last, load_model
from ..calibration.images import CalibrationImages
from ..calibration.recipe import Recipe
from ..errors import ExportError
from ..manifest import Manifest
from ..preprocess import Preprocessor
from ..runtimes.openvino_library import import_nncf, openvino_core, read_network
from .openvino_ir import write_network

__all__ = ["nncf_files", "nncf_images"]

_IMAGES = 300  # NNCF's own default


def nncf_images(images: CalibrationImages) -> CalibrationImages:
    """Return those of the images that NNCF sees."""
    return images.first(_IMAGES)


def nncf_files(source: Artifact, manifest: Manifest, recipe: Recipe, images: CalibrationImages) -> dict[str, bytes]:
    """Quantize a float model with ``nncf.quantize``, preset MIXED.

    Matrix products, multiplications and the decode are left out: left to its defaults altogether, NNCF quantizes the
    decode of boxes too, which ruins them, and OpenVINO's CPU plugin does not compile every such model.

    Args:
        source: The FP32 ONNX artifact.
        manifest: Of the artifact to make.
        recipe: Says how many bits weights have, and which groups stay float.
        images: To calibrate on.

    Returns:
        ``model.xml`` and ``model.bin``.

    Raises:
        MissingDependencyError: If nncf or openvino is not installed.
        ExportError: If NNCF fails.
    """
    nncf = import_nncf()
    nncf.set_log_level(logging.ERROR)
    content = source.model_file.read_bytes()
    graph = Graph.of(load_model(content))
    decoded = {node.name for node in graph.nodes if graph.decoded.intersection(node.output)}

    def stays_float(name: str) -> bool:
        node = name.split("/")[0]  # OpenVINO adds to the names of nodes that it takes apart
        return head_last(node) or node in decoded or group_of(node) in recipe.float_groups

    network = read_network(openvino_core(), content)
    names = [op.get_friendly_name() for op in network.get_ordered_ops()]
    try:
        quantized = nncf.quantize(
            network,
            nncf.Dataset(_Inputs(nncf_images(images), Preprocessor(manifest.input))),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=_IMAGES,
            ignored_scope=nncf.IgnoredScope(
                names=[name for name in names if stays_float(name)],
                types=["MatMul", "Multiply", "Subtract"],
                validate=False,
            ),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE if recipe.reduced_range else nncf.OverflowFix.DISABLE
            ),
        )
    except Exception as error:  # NNCF has no common base of its own exceptions
        raise ExportError(f"NNCF could not quantize the model: {error}") from error
    return write_network(quantized, manifest)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Prepared images, each time anew: NNCF goes over them several times, and they need not all be in memory."""

    images: CalibrationImages
    preprocessor: Preprocessor

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        return self.images.batches(self.preprocessor)
