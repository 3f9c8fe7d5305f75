"""The options of ``yolo12edge export`` that are Core ML's alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from ..artifact import Artifact
    from ..exporters.coreml_converter import CoremlConverter
    from ..exporters.coreml_library import CoremlTarget
    from ..exporters.coreml_package import CoremlForm
    from ..manifest import Weights
    from ._data import ExportData

__all__ = ["CoremlOptions", "check_sizes", "merge_sizes", "write_packages", "write_pipeline"]


@dataclass(frozen=True, slots=True)
class CoremlOptions:
    """What was given on the command line; each is named like its option."""

    palettize: Literal["4", "6", "8"] | None = None
    weights_int8: bool = False
    ios: Literal["16", "17", "18"] = "17"

    def given(self) -> list[str]:
        """Return the options that are not as they are by themselves."""
        return [f"--{item.name.replace('_', '-')}" for item in fields(self) if getattr(self, item.name) != item.default]

    def forms(
        self, precisions: Sequence[Literal["fp32", "fp16"]], *, batch: int, min_batch: int | None
    ) -> dict[str, CoremlForm]:
        """Return the float artifacts to write, by the end of their name; the first is what INT8 is compared with.

        An image input takes one picture; for batches the input is a tensor.

        Raises:
            InputError: If the system is too old for one of them.
        """
        from ..exporters.coreml_package import CoremlForm

        plain = CoremlForm(
            target=cast("CoremlTarget", f"iOS{self.ios}"), image_input=batch == 1, batch=batch, min_batch=min_batch
        )
        forms: dict[str, CoremlForm] = {name: replace(plain, precision=name) for name in precisions}
        if self.palettize is not None:
            name = f"palettized-{self.palettize}"
            forms[name] = replace(plain, weights=cast("Weights", name))
        if self.weights_int8:
            forms["weights-int8"] = replace(plain, weights="int8")
        return forms

    def converter(self, form: CoremlForm) -> CoremlConverter:
        """Return what makes INT8 artifacts of this form.

        Raises:
            InputError: If the system is too old for W8A8.
        """
        from ..errors import InputError
        from ..exporters.coreml_converter import CoremlConverter

        if self.ios == "16":
            raise InputError("iOS 16 cannot run INT8 activations", expected="17 or later", remedy="add --ios 17")
        return CoremlConverter(form)


def check_sizes(sizes: Sequence[int], *, format: str, ios: str, calibration: Path | None) -> None:
    """Refuse image sizes before anything is made.

    Args:
        sizes: Sides of network inputs, as given.
        format: What is exported to.
        ios: The oldest system that is to run it.
        calibration: Statistics that were given.

    Raises:
        InputError: If a size is no multiple of 32, or there are several that cannot go into one package.
    """
    from ..errors import InputError
    from ..runtimes.torch_backend import image_hw

    for size in sizes:
        image_hw(size)
    if len(sizes) < 2:
        return
    if format != "coreml":
        raise InputError(
            f"--imgsz was given {len(sizes)} times, and only Core ML packages hold several sizes",
            remedy="add --format coreml --ios 18, or export one size after the other",
        )
    if len(set(sizes)) < len(sizes):
        again = next(size for size in sizes if sizes.count(size) > 1)
        raise InputError(f"--imgsz {again} was given twice", expected="different sizes")
    if ios != "18":
        raise InputError(
            f"iOS {ios} knows no package of several sizes", expected="iOS 18 (macOS 15)", remedy="add --ios 18"
        )
    if calibration is not None:
        raise InputError(
            "--calibration is of one size, and --imgsz was given several",
            remedy="leave it out: each size is calibrated, and keeps its statistics",
        )


def write_packages(
    forms: dict[str, CoremlForm],
    onnx: Artifact,
    place: Callable[[str], Path],
    *,
    images: Sequence[Path] | None,
    given: ExportData,
    overwrite: bool,
) -> list[Artifact]:
    """Make the float artifacts and show how it goes on; errors are those of ``coreml_from_onnx``.

    Args:
        forms: By the end of the artifact's name.
        onnx: The FP32 ONNX artifact.
        place: Where to write, by that end.
        images: To compare on; None renders scenes.
        given: The data that the user gave; compressed weights are scored on its labelled images.
        overwrite: Whether artifacts may be replaced.
    """
    from ..exporters.coreml_export import coreml_from_onnx
    from ._console import console

    artifacts = []
    for name, form in forms.items():
        with console.status(f"Converting to Core ML, {name}, and comparing with ONNX"):
            artifacts.append(
                coreml_from_onnx(
                    onnx,
                    place(name),
                    form,
                    images=images,
                    samples=given.scored,
                    dataset=given.dataset_name,
                    overwrite=overwrite,
                )
            )
    return artifacts


def write_pipeline(artifact: Artifact, place: Path, *, iou: float, overwrite: bool) -> Path:
    """Write the package with Apple's suppression behind the model; errors are those of ``coreml_pipeline``."""
    from ..exporters.coreml_suppression import coreml_pipeline
    from ._console import console

    with console.status("Adding Apple's suppression"):
        return coreml_pipeline(artifact, place, iou=iou, overwrite=overwrite)


def merge_sizes(made: Sequence[Sequence[Artifact]], places: Sequence[Path], *, overwrite: bool) -> None:
    """Write a package for each form, which holds it in all sizes; errors are those of ``coreml_sizes``.

    Args:
        made: The artifacts of each size, in the order of ``places``.
        places: Where the packages go.
        overwrite: Whether packages may be replaced.
    """
    from ..exporters.coreml_functions import coreml_sizes
    from ._console import console

    for place, *artifacts in zip(places, *made, strict=True):
        with console.status("Merging the sizes, and comparing"):
            coreml_sizes(artifacts, place, overwrite=overwrite)
