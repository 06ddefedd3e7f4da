"""The parts of a report: text that stays text, lines that stay short, pictures that are the same each time."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ssn_core.report import about_data, drawing, html, pictures, words
from ssn_core.report.drawing import Mark
from ssn_core.report.html import Html, tag, text

HOSTILE = "<script>alert('1')</script>\"&\u202egnp.exe\x00\ud800"


class Reader(HTMLParser):
    """What a browser would make of a page: its elements, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def test_a_text_from_outside_stays_a_text_in_an_element_and_in_an_attribute() -> None:
    reader = read(tag("p", HOSTILE, title=HOSTILE, class_="a"))
    shown = "<script>alert('1')</script>\"&\ufffdgnp.exe\ufffd\ufffd"
    assert reader.elements == [("p", {"title": shown, "class": "a"})]
    assert reader.words.strip() == shown


def test_only_markup_is_put_in_as_it_is() -> None:
    assert tag("b", Html("<i>x</i>"), "<i>") == "<b><i>x</i>&lt;i&gt;</b>"
    assert tag("b", ["a", ["b", None], (word for word in "cd")]) == "<b>abcd</b>"
    assert text("\u200bhidden\u2066") == "\ufffdhidden\ufffd"


def test_a_long_name_keeps_its_end() -> None:
    name = "x" * 300 + "/part-07.png"
    assert len(html.shortened(name)) == 120
    assert html.shortened(name).endswith("/part-07.png")
    assert html.shortened("short.png") == "short.png"


def test_each_typed_line_is_a_paragraph() -> None:
    assert html.paragraphs("one\n\n<two>") == "<p>one</p>\n<p>&lt;two&gt;</p>\n"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.500"), (0.9996, "0.99960"), (1.0, "1.000"), (0.9994, "0.999"), (0.0, "0.000")]
)
def test_what_is_not_quite_one_is_not_printed_as_one(value: float, shown: str) -> None:
    assert words.figure(value) == shown


def test_a_rate_without_anything_to_count_is_not_zero() -> None:
    assert words.rate(0, 0, nothing="no bad part") == ("n/a: no bad part", "–")
    value, interval = words.rate(1, 50, nothing="")
    assert (value, interval) == ("2.0\xa0% (1 of 50)", "0.4\xa0% to 10.5\xa0%")


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0.000"), (-0.0001, "0.000"), (-0.012, "\N{MINUS SIGN}0.012"), (0.5, "+0.500")]
)
def test_a_difference_has_its_sign(value: float, shown: str) -> None:
    assert words.signed(value) == shown


@pytest.mark.parametrize(
    ("learns_from", "said"),
    [
        ("labels", "by their labels alone."),
        ("good", "by their labels alone."),
        ("masks", "by their labels and the masks of bad ones."),
        ("mixed", "by their labels and the masks of bad ones."),
    ],
)
def test_what_a_model_learned_from_names_the_masks_where_it_read_them(learns_from: str, said: str) -> None:
    trained = SimpleNamespace(n_good=26, n_bad=15, relabelled=0, labelled_since=0)
    told = about_data._learned_from(SimpleNamespace(trained=trained, settings={"learns_from": learns_from}))
    assert f"26 good images and 15 bad images, {said}" in str(told)


def test_the_words_of_two_marks_do_not_lie_on_each_other() -> None:
    labels, scores = many(100)
    drawn = drawing.roc(labels, scores, [Mark(0.0, 0.9, "upper"), Mark(0.03, 0.97, "lower"), Mark(0.05, 0.99, "more")])
    places = {name: float(re.findall(rf'y="([0-9.]+)"[^>]*>{name}<', drawn)[0]) for name in ("upper", "lower", "more")}
    assert places["upper"] - places["lower"] >= 13
    assert places["lower"] - places["more"] >= 13


def many(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = (rng.random(n) < 0.3).astype(np.int8)
    return labels, rng.normal(size=n) + labels


def test_the_curves_of_many_scores_are_small_and_go_from_corner_to_corner() -> None:
    labels, scores = many(100_000)
    for drawn in (drawing.roc(labels, scores, []), drawing.precision_recall(labels, scores, [Mark(0.5, 0.5, "here")])):
        assert len(drawn) < 60_000
        (points,) = re.findall(r'points="([^"]+)"', drawn)
        across = [float(point.split(",")[0]) for point in points.split()]
        assert (across[0], across[-1]) == (46.0, 286.0)
        assert across == sorted(across)


def test_a_line_is_thinned_without_moving_it() -> None:
    x = np.array([0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 3.01])
    y = np.array([0.0, 1.0, 2.0, 2.0, 2.0, 2.5, 2.5])
    assert drawing.thinned(x, y) == [("0", "0"), ("0", "2"), ("2", "2"), ("3", "2.5")]


def test_the_curve_of_perfect_scores_has_three_points() -> None:
    labels, scores = np.array([0, 0, 1, 1], np.int8), np.array([-2.0, -1.0, 1.0, 2.0])
    (points,) = re.findall(r'points="([^"]+)"', drawing.roc(labels, scores, []))
    assert points == "46,250 46,10 286,10"


@pytest.mark.parametrize("scores", [[0.5], [1.0, 1.0, 1.0], [-1e9, 1e-9, 1e9]])
def test_a_histogram_can_be_drawn_of_any_finite_scores(scores: list[float]) -> None:
    labels = np.array([1] * len(scores), np.int8)
    drawn = drawing.histogram(labels, np.array(scores), threshold=0.5, threshold_low=0.25)
    assert f"bad parts: {len(scores)}" in drawn
    assert "good parts: 0" in drawn
    assert drawn.count('class="cut"') == 2
    assert "nan" not in drawn
    assert "inf" not in drawn


def photo(width: int = 500, height: int = 1250) -> Image.Image:
    pixels = np.random.default_rng(1).integers(90, 160, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_picture_has_the_photo_left_and_the_map_right_and_is_the_same_each_time() -> None:
    cells = np.zeros((88, 32), np.float32)
    cells[40:48, 12:20] = 5.0
    first = pictures.beside(photo(), cells, low=0.0, high=5.0)
    assert pictures.beside(photo(), cells, low=0.0, high=5.0) == first
    shown = np.asarray(Image.open(io.BytesIO(first.jpeg)).convert("RGB")).astype(int)
    assert shown.shape == (first.height, first.width, 3)
    half = (first.width - 6) // 2
    assert half * first.height <= pictures.MAX_AREA * 1.02
    colourful = np.abs(shown[..., 0] - shown[..., 2]) > 60
    assert not colourful[:, :half].any()
    middle = colourful[:, half + 6 :][first.height // 2 - 10 : first.height // 2 + 10]
    assert middle[:, half // 2 - 10 : half // 2 + 10].all()


def test_the_line_around_a_mask_leaves_the_defect_to_be_seen() -> None:
    mask = np.zeros((1250, 500), bool)
    mask[600:603, 100:400] = True
    plain, lined = (pictures.beside(photo(), None, low=0.0, high=1.0, mask=m) for m in (None, mask))
    before, after = (np.asarray(Image.open(io.BytesIO(one.jpeg)).convert("L")).astype(int) for one in (plain, lined))
    changed = np.abs(before - after) > 60
    row = round(601.5 / 1250 * plain.height)
    assert not changed[row - 1 : row + 2, plain.width // 3 : plain.width // 2].any()
    assert changed[row - 9 : row + 9, plain.width // 3 : plain.width // 2].any(axis=0).all()


def test_a_small_photo_is_not_blown_up() -> None:
    assert pictures.shown_size(24, 16) == (24, 16)
    assert pictures.shown_size(20_000, 10) == (480, 1)
