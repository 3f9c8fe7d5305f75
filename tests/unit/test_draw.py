from __future__ import annotations

import numpy as np
import pytest

from yolo12edge.detections import Detections
from yolo12edge.errors import InputError
from yolo12edge.imaging import class_color, draw_detections, label_grid
from yolo12edge.imaging.draw import _ink, _Style

NAMES = ["cell", "a class with a rather long name"]


def one(box: tuple[float, float, float, float], class_id: int = 0) -> Detections:
    return Detections(np.array([box]), np.array([0.9]), np.array([class_id]))


def grey(height: int = 240, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def test_the_image_itself_is_not_changed() -> None:
    image = grey()
    image.flags.writeable = False
    drawn = draw_detections(image, one((50, 60, 150, 160)), NAMES)
    assert drawn.shape == image.shape
    assert (image == 128).all()
    np.testing.assert_array_equal(draw_detections(image, Detections.empty(), NAMES), image)


def test_the_line_is_on_the_box() -> None:
    drawn = draw_detections(grey(), one((50, 60, 150, 160)), NAMES, labels=False)
    color = np.array(class_color(0))
    for y, x in ((60, 100), (160, 100), (110, 50), (110, 150)):
        assert (drawn[y, x] == color).all()
    changed = np.argwhere((drawn != 128).any(axis=2))
    assert np.abs(changed.min(axis=0) - (60, 50)).max() <= 2
    assert np.abs(changed.max(axis=0) - (160, 150)).max() <= 2
    assert (drawn[64:156, 54:146] == 128).all()


@pytest.mark.parametrize(
    "box", [(0, 0, 10, 10), (310, 0, 320, 10), (0, 230, 10, 240), (310, 230, 320, 240), (0, 0, 320, 240)]
)
@pytest.mark.parametrize("class_id", [0, 1])
def test_a_label_is_whole_inside_the_image(box: tuple[float, float, float, float], class_id: int) -> None:
    drawn = draw_detections(grey(), one(box, class_id), NAMES)
    free = draw_detections(grey(), one((100, 100, 110, 110), class_id), NAMES)
    color = np.array(class_color(class_id))
    ink = np.array(_ink(class_color(class_id)))
    # As much of the text's ink as where there is all room in the world.
    inked = [(np.abs(image.astype(int) - ink).sum(axis=2) < 30).sum() for image in (drawn, free)]
    assert inked[1] > 20
    assert inked[0] == inked[1]
    assert (drawn == color).all(axis=2).sum() > 100


def test_labels_do_not_cover_each_other_where_there_is_room() -> None:
    box = (100, 100, 200, 200)
    both = Detections(np.array([box, box]), np.array([0.9, 0.8]), np.array([0, 1]))
    drawn = draw_detections(grey(), both, ["cell", "wall"])
    for class_id in (0, 1):
        alone = draw_detections(grey(), one(box, class_id), ["cell", "wall"])
        ink = np.array(_ink(class_color(class_id)))
        assert (drawn == ink).all(axis=2).sum() >= (alone == ink).all(axis=2).sum() * 0.9


def test_sizes_grow_with_the_image() -> None:
    styles = [_Style.of(grey(h, w)) for h, w in ((240, 320), (480, 640), (1080, 1920), (2160, 3840))]
    lines, fonts = [style.line for style in styles], [style.font_scale for style in styles]
    assert lines[0] == 1
    assert lines == sorted(lines)
    assert 6 <= lines[-1] <= 10
    assert fonts == sorted(fonts)
    assert fonts[-1] > 4 * fonts[0]


def test_colors_are_stable_distinct_and_readable() -> None:
    assert class_color(0) == (0x4B, 0x19, 0xE6)
    colors = np.array([class_color(i) for i in range(80)], int)
    distance = np.abs(colors[:20, None] - colors[None, :20]).sum(axis=2) + 999 * np.eye(20, dtype=int)
    assert distance.min() > 60
    assert len({tuple(color) for color in colors}) >= 78
    assert _ink((255, 255, 255)) == (0, 0, 0)
    assert _ink((0, 0, 0)) == (255, 255, 255)
    assert _ink((0, 255, 255)) == (0, 0, 0)
    assert _ink((255, 0, 0)) == (255, 255, 255)


def test_odd_boxes_and_unknown_classes_do_not_crash() -> None:
    odd = Detections(
        np.array([[np.nan, 0, 5, 5], [-50, -50, 999, 999], [30, 30, 30, 30]]), np.array([0.5, 0.6, 0.7]), [0, 1, 7]
    )
    assert draw_detections(grey(), odd, NAMES).shape == (240, 320, 3)
    assert draw_detections(grey(1, 1), odd, NAMES).shape == (1, 1, 3)


def test_label_grid() -> None:
    images = [np.full((h, w, 3), value, np.uint8) for h, w, value in ((100, 200, 10), (300, 100, 60), (64, 64, 200))]
    grid = label_grid(images, cell=128, titles=["one", "", "three"])
    assert grid.shape == (2 * 130 + 2, 2 * 130 + 2, 3)
    assert (grid[2 + 64, 2 + 64] == 10).all()
    assert (grid[2 + 64, 132 + 64] == 60).all()
    assert (grid[132 + 64, 2 + 64] == 200).all()
    assert (grid[132 + 64, 132 + 64] == 255).all()  # no fourth image
    assert label_grid(images, columns=3, cell=64).shape == (68, 200, 3)
    with pytest.raises(InputError, match="no image"):
        label_grid([])
    with pytest.raises(InputError, match="titles"):
        label_grid(images, titles=["one"])
