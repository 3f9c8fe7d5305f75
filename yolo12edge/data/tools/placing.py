"""Putting the pictures of a dataset into another folder: copied or linked, each under a name of its own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import DatasetError

__all__ = ["Placer"]


@dataclass(frozen=True, slots=True)
class Placer:
    """Puts pictures into folders.

    Attributes:
        link: Whether to make symbolic links in place of copies.
        taken: The names, without suffix, that are taken in each folder.
    """

    link: bool = False
    taken: dict[Path, set[str]] = field(default_factory=dict)

    def put(self, image: Path, folder: Path) -> Path:
        """Put an image into a folder under its own name, or NAME-2, NAME-3, … where that is taken; return the file.

        No two images of a folder differ in their suffixes alone: they would share their labels.

        Raises:
            DatasetError: If it is not there, or cannot be copied or linked.
        """
        taken = self.taken.setdefault(folder, set())
        stem, number = image.stem, 2
        while stem.lower() in taken:
            stem, number = f"{image.stem}-{number}", number + 1
        taken.add(stem.lower())
        target = folder / f"{stem}{image.suffix}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.link:
                target.symlink_to(image.resolve(strict=True))
            else:
                shutil.copyfile(image, target)
        except OSError as error:
            raise DatasetError(f"cannot put {image} into {folder}: {error.strerror or error}") from error
        return target
