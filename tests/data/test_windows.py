"""Turned pictures: the object stays in the middle and its box fits what is seen."""

import cv2
import numpy as np
import pytest

from siamtrack.data.pairs import rotate_about_box


def ellipse_picture(box):
    x, y, w, h = box
    ys, xs = np.mgrid[:200, :240] + 0.5
    inside = ((xs - x - w / 2) / (w / 2)) ** 2 + ((ys - y - h / 2) / (h / 2)) ** 2 <= 1
    return np.where(inside[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)


@pytest.mark.parametrize("degrees", [-75, -40, 0, 15, 45, 90])
def test_the_box_is_that_of_the_turned_ellipse(degrees):
    box = np.array([80.0, 70.0, 70.0, 30.0])
    picture, got = rotate_about_box(ellipse_picture(box), box, np.deg2rad(degrees))
    rows, columns = np.nonzero(picture[..., 0] > 127)
    seen = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    np.testing.assert_allclose(got, seen, atol=1.6)


def test_it_turns_clockwise():
    picture = np.zeros((100, 100, 3), np.uint8)
    cv2.circle(picture, (80, 50), 5, (255, 255, 255), -1)  # to the right of the middle
    turned, _ = rotate_about_box(picture, np.array([40.0, 40.0, 20.0, 20.0]), np.deg2rad(90))
    rows, columns = np.nonzero(turned[..., 0] > 127)
    assert abs(columns.mean() - 50) < 1.5 and abs(rows.mean() - 80) < 1.5  # now below it
