"""``Augmentation``: which operations training pictures go through, in stages whose order is fixed.

The stages are mix, geometry, policies, colour and hide; the fields of ``Augmentation`` are in that order. An operation
that is None never happens. What is here says how strong each one is; the modules beside it do the work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from ...errors import InputError
from ...manifest import Task

__all__ = [
    "Affine",
    "Augmentation",
    "Augmix",
    "Autoaugment",
    "Blur",
    "BrightnessContrast",
    "Clahe",
    "CopyPaste",
    "Crop",
    "Cutmix",
    "Equalize",
    "Erasing",
    "Fliplr",
    "Flipud",
    "Gray",
    "Gridmask",
    "Hsv",
    "Mixup",
    "Mosaic",
    "Op",
    "Randaugment",
    "Trivialaugment",
]

_ONE_CLASS = "a class of a whole picture has no place in it, and cannot be shared"
_NO_MASKS = "its labels have no outlines to cut objects out by"

Range = tuple[float, float]


class Op(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Settings of one operation.

    Attributes:
        limits: Least and largest value of each setting.
        lacking: Tasks that cannot have the operation, and why.
        p: Probability that a picture goes through it.

    Raises:
        InputError: If a value is outside its range.
    """

    limits: ClassVar[Mapping[str, Range]] = {}
    lacking: ClassVar[Mapping[Task, str]] = {}
    p: float = 1.0

    @classmethod
    def title(cls) -> str:
        """Return the operation's name as it is written in a file."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def __post_init__(self) -> None:
        for name, (low, high) in {"p": (0.0, 1.0), **self.limits}.items():
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(low <= number <= high for number in numbers):  # NaN fails this too
                self._refuse(name, f"from {low:g} to {high:g}")
            if list(numbers) != sorted(numbers):
                self._refuse(name, "the least value first")

    def _refuse(self, name: str, expected: str) -> None:
        raise InputError(f"{self.title()}.{name} is {getattr(self, name)}", expected=expected)


class Mosaic(Op, frozen=True):
    """A picture is made of several: 4 around a point, or 9 around one.

    Attributes:
        tiles: 4 or 9. Of 9 each is two thirds as large.
    """

    lacking: ClassVar[Mapping[Task, str]] = {"classify": _ONE_CLASS}
    tiles: int = 4

    def __post_init__(self) -> None:
        Op.__post_init__(self)
        if self.tiles not in (4, 9):
            self._refuse("tiles", "4 or 9")


class CopyPaste(Op, frozen=True):
    """Objects are copied to where their mirror images would be; ``p`` is of each object (arXiv:2012.07177)."""

    lacking: ClassVar[Mapping[Task, str]] = dict.fromkeys(("detect", "classify", "pose", "obb"), _NO_MASKS)


class Mixup(Op, frozen=True):
    """A picture is blended with a second one, about evenly (arXiv:1710.09412)."""

    lacking: ClassVar[Mapping[Task, str]] = {"classify": _ONE_CLASS}


class Cutmix(Op, frozen=True):
    """A square is replaced by that of a second picture (arXiv:1905.04899); not where the picture was blended."""

    lacking: ClassVar[Mapping[Task, str]] = {"classify": _ONE_CLASS}


class Affine(Op, frozen=True):
    """Zoom, turn, shear, shift and perspective about the picture's centre.

    Attributes:
        degrees: Rotation is drawn from ``± degrees``; in [0, 180].
        scale: Zoom is drawn from ``1 ± scale``; in [0, 0.99].
        translate: Shift is drawn from ``± translate``, as a share of the side; in [0, 1].
        shear: Shear along each axis is drawn from ``± shear`` degrees; in [0, 44]: from 45 on, shear along both axes
            can turn a picture into its mirror image.
        perspective: Perspective of each axis is drawn from ``± perspective``, per pixel; in [0, 0.001], and no more
            than keeps all of the picture before the camera.
    """

    limits: ClassVar[Mapping[str, Range]] = {
        "degrees": (0, 180),
        "scale": (0, 0.99),
        "translate": (0, 1),
        "shear": (0, 44),
        "perspective": (0, 0.001),
    }
    degrees: float = 0.0
    scale: float = 0.0
    translate: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0


class Crop(Op, frozen=True):
    """A random window is enlarged to the whole picture (Szegedy et al. 2014).

    Attributes:
        area: Smallest share of the picture that is kept, in [0.01, 1].
        aspect: The window is at most so many times wider than high, or higher than wide; in [1, 4].
    """

    limits: ClassVar[Mapping[str, Range]] = {"area": (0.01, 1), "aspect": (1, 4)}
    area: float = 0.25
    aspect: float = 4 / 3


class Fliplr(Op, frozen=True):
    """The picture is mirrored. One with keypoints whose mirror images are not known never is."""

    p: float = 0.5


class Flipud(Op, frozen=True):
    """The picture is turned upside down; as ``Fliplr``."""

    p: float = 0.5


class Randaugment(Op, frozen=True):
    """Some operations of a list, all of one magnitude (arXiv:1909.13719).

    Attributes:
        ops: How many, in [1, 8].
        magnitude: In [0, 30].
    """

    limits: ClassVar[Mapping[str, Range]] = {"ops": (1, 8), "magnitude": (0, 30)}
    ops: int = 2
    magnitude: float = 9.0


class Autoaugment(Op, frozen=True):
    """One of 25 pairs of operations that were found for ImageNet (arXiv:1805.09501)."""


class Trivialaugment(Op, frozen=True):
    """One operation of a list, of any magnitude up to a large one (arXiv:2103.10158)."""


class Augmix(Op, frozen=True):
    """A mixture of chains of recolourings (arXiv:1912.02781); without geometry, so that labels have one place.

    Attributes:
        severity: In [0, 10].
    """

    limits: ClassVar[Mapping[str, Range]] = {"severity": (0, 10)}
    severity: float = 3.0


class Hsv(Op, frozen=True):
    """Hue, saturation and value are multiplied by gains, each drawn from ``1 ±`` its setting, in [0, 1]."""

    limits: ClassVar[Mapping[str, Range]] = {"hue": (0, 1), "saturation": (0, 1), "value": (0, 1)}
    hue: float = 0.015
    saturation: float = 0.7
    value: float = 0.4


class BrightnessContrast(Op, frozen=True):
    """Levels are multiplied, and their distance from the mean, by factors from ``1 ±`` the setting, in [0, 1]."""

    limits: ClassVar[Mapping[str, Range]] = {"brightness": (0, 1), "contrast": (0, 1)}
    brightness: float = 0.2
    contrast: float = 0.2


class Equalize(Op, frozen=True):
    """The histogram of lightness is made flat."""

    p: float = 0.01


class Clahe(Op, frozen=True):
    """The same in each of 8 × 8 parts, with limited contrast.

    Attributes:
        clip: Limit of the contrast, in [1, 40].
    """

    limits: ClassVar[Mapping[str, Range]] = {"clip": (1, 40)}
    p: float = 0.01
    clip: float = 2.0


class Blur(Op, frozen=True):
    """Each pixel becomes the mean of those around it.

    Attributes:
        radius: Up to so many pixels around it, in [1, 10].
    """

    limits: ClassVar[Mapping[str, Range]] = {"radius": (1, 10)}
    p: float = 0.01
    radius: int = 3


class Gray(Op, frozen=True):
    """The picture loses its colours."""

    p: float = 0.01


class Gridmask(Op, frozen=True):
    """A grid of squares is painted over (arXiv:2001.04086); objects of which more than 80 % is hidden are dropped.

    Attributes:
        unit: Distance of the squares, as a share of the side; drawn from a range in [0.02, 1].
        hidden: Side of a square as a share of the unit, in [0.05, 0.9].
    """

    limits: ClassVar[Mapping[str, Range]] = {"unit": (0.02, 1), "hidden": (0.05, 0.9)}
    unit: Range = (0.1, 0.3)
    hidden: float = 0.4


class Erasing(Op, frozen=True):
    """A rectangle is painted over (arXiv:1708.04896); objects of which more than 80 % is hidden are dropped.

    Attributes:
        area: Its share of the picture; drawn from a range in [0.001, 0.9].
        aspect: It is at most so many times wider than high, or higher than wide; in [1, 10].
    """

    limits: ClassVar[Mapping[str, Range]] = {"area": (0.001, 0.9), "aspect": (1, 10)}
    area: Range = (0.02, 0.33)
    aspect: float = 3.3


class Augmentation(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="kebab"
):
    """What training pictures go through, in the order of the fields; without any, they are only letterboxed.

    Raises:
        InputError: If there is more than one policy.
    """

    mosaic: Mosaic | None = None
    affine: Affine | None = None
    crop: Crop | None = None
    copy_paste: CopyPaste | None = None
    randaugment: Randaugment | None = None
    autoaugment: Autoaugment | None = None
    trivialaugment: Trivialaugment | None = None
    augmix: Augmix | None = None
    mixup: Mixup | None = None
    cutmix: Cutmix | None = None
    hsv: Hsv | None = None
    brightness_contrast: BrightnessContrast | None = None
    equalize: Equalize | None = None
    clahe: Clahe | None = None
    blur: Blur | None = None
    gray: Gray | None = None
    fliplr: Fliplr | None = None
    flipud: Flipud | None = None
    gridmask: Gridmask | None = None
    erasing: Erasing | None = None

    def __post_init__(self) -> None:
        policies = (self.randaugment, self.autoaugment, self.trivialaugment, self.augmix)
        names = [policy.title() for policy in policies if policy is not None]
        if len(names) > 1:
            raise InputError(f"{' and '.join(names)} are both asked for", expected="one policy", remedy="remove one")

    @property
    def ops(self) -> tuple[Op, ...]:
        """The operations that there are, in the order in which they are done."""
        values = (getattr(self, name) for name in self.__struct_fields__)
        return tuple(value for value in values if value is not None)

    def check(self, task: Task) -> None:
        """Check that a task can have all operations.

        Raises:
            InputError: If it cannot.
        """
        for op in self.ops:
            if task in op.lacking:
                raise InputError(f"{op.title()} is not for {task}: {op.lacking[task]}", remedy=f"remove {op.title()}")

    def without_mixing(self) -> Augmentation:
        """Return what the last epochs have: single pictures, neither tiled nor blended nor pasted into."""
        return msgspec.structs.replace(self, mosaic=None, copy_paste=None, mixup=None, cutmix=None)

    def without_flips(self) -> Augmentation:
        """Return what pictures have whose mirror images would have wrong labels."""
        return msgspec.structs.replace(self, fliplr=None, flipud=None)
