from __future__ import annotations

import cv2
import numpy as np
import pytest

from yolo12edge.detections import Detections
from yolo12edge.errors import InputError
from yolo12edge.imaging import class_color, draw_detections, label_grid
from yolo12edge.imaging.draw import _ink, _Style
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.masks import Masks

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


def test_labels_leave_most_of_a_crowded_picture_to_be_seen() -> None:
    left, top = (value.ravel() for value in np.meshgrid(np.arange(0, 320, 16), np.arange(0, 240, 16)))
    boxes = np.stack((left, top, left + 8, top + 8), axis=1)
    crowd = Detections(boxes, np.linspace(0.3, 0.9, len(boxes)), np.zeros(len(boxes), int))
    plain = draw_detections(grey(), crowd, NAMES, labels=False)
    drawn = draw_detections(grey(), crowd, NAMES)
    hidden = (plain != drawn).any(axis=2).mean()
    assert 0.15 < hidden < 0.3
    assert (
        draw_detections(grey(), crowd[-1:], NAMES) != draw_detections(grey(), crowd[-1:], NAMES, labels=False)
    ).any()


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


def test_a_mask_is_tinted_and_outlined_and_nothing_else() -> None:
    mask = np.zeros((1, 240, 320), np.bool_)
    mask[0, 60:160, 50:150] = True
    mask[0, 100:120, 90:110] = False
    found = Detections([[50, 60, 150, 160]], [0.9], [0], mask=Masks.of_full(mask))
    drawn = draw_detections(grey(), found, NAMES, labels=False)
    tinted = np.rint(128 * 0.55 + np.array(class_color(0)) * 0.45)
    assert (drawn[70, 60] == tinted).all()
    assert (drawn[110, 100] == 128).all()  # the hole
    assert (drawn[60, 100] == class_color(0)).all()
    away = ~cv2.dilate(mask[0].astype(np.uint8), np.ones((5, 5))).astype(bool)
    assert (drawn[away] == 128).all()
    with pytest.raises(InputError, match="do not fit a picture"):
        draw_detections(grey(100, 100), found, NAMES)


def test_visible_keypoints_are_joined() -> None:
    points = np.array([[[20, 20, 0.9], [120, 20, 0.8], [120, 120, 0.1], [np.nan, 5, 0.9]]], np.float32)
    found = Detections([[10, 10, 130, 130]], [0.9], [0], keypoints=points)
    spec = KeypointSpec(count=4, skeleton=[(0, 1), (1, 2), (0, 3)])
    drawn = draw_detections(grey(), found, NAMES, keypoints=spec, labels=False)
    color = np.array(class_color(0))
    assert np.abs(drawn[20, 70] - color).max() < 16  # lines at any angle are smoothed
    assert (drawn[20, 20] == color).all()
    assert (drawn[10, 70] == color).all()  # the box
    assert (drawn[70, 118:122] == 128).all()  # not to a point that is hidden
    assert (drawn[115:125, 115:125] == 128).all()
    alone = draw_detections(grey(), found, NAMES, labels=False)
    assert (alone[20, 70] == 128).all()
    assert (alone[20, 20] == color).all()


def test_an_oriented_box_is_turned() -> None:
    found = Detections([[60, 60, 140, 140]], [0.9], [0], obb=[[100, 100, 100, 10, np.pi / 4]])
    drawn = draw_detections(grey(), found, NAMES, labels=False)
    changed = np.argwhere((drawn != 128).any(axis=2))
    along, across = (changed - 100).sum(axis=1) / 2**0.5, (changed[:, 1] - changed[:, 0]) / 2**0.5
    assert np.abs(across).max() < 8  # down to the right, as a positive angle turns
    assert 48 < np.abs(along).max() < 53
    odd = Detections([[0, 0, 1, 1]] * 2, [0.9] * 2, [0, 1], obb=[[1e9, 0, 5, 5, 0], [np.nan] * 5])
    assert draw_detections(grey(), odd, NAMES).shape == (240, 320, 3)


def test_classes_of_the_whole_image_are_written_into_its_corner() -> None:
    found = Detections([[0, 0, 320, 240]], [0.6], [1], probs=[[0.3, 0.6, 0.1, 0.0]])
    drawn = draw_detections(grey(), found, ["a", "b", "c", "d"])
    rows = [np.flatnonzero((drawn == class_color(i)).all(axis=2).any(axis=1)) for i in range(4)]
    assert 0 <= rows[1].min() <= rows[1].max() < rows[0].min() <= rows[0].max() < rows[2].min()  # the best first
    assert not len(rows[3])
    assert (drawn[:, 160:] == 128).all()
    assert (drawn[120:] == 128).all()  # never more than the upper half
    small = draw_detections(grey(28, 28), found, ["a", "b", "c", "d"])
    assert not (small == class_color(0)).all(axis=2).any()  # no room for the second
    np.testing.assert_array_equal(draw_detections(grey(), found, NAMES, labels=False), grey())
