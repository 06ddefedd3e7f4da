import itertools
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from ssn_core import metrics
from ssn_core.errors import SsnError

# Few distinct scores, so that ties within and between the classes are the rule.
tied_samples = st.lists(
    st.tuples(st.booleans(), st.integers(-3, 3).map(lambda step: step / 4)), min_size=2, max_size=40
).filter(lambda rows: 0 < sum(bad for bad, _ in rows) < len(rows))


def naive_aupro(maps, masks, fpr_limit):
    """The definition, spelled out: at every distinct score, the mean over regions of the share that is found."""
    regions = []
    for number, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(number, labelled == region) for region in range(1, count + 1)]
    n_good = sum(int((~mask).sum()) for mask in masks)
    curve = [(0.0, 0.0)]
    for threshold in sorted({float(v) for one in maps for v in one.ravel()}, reverse=True):
        false = sum(int(((one >= threshold) & ~mask).sum()) for one, mask in zip(maps, masks, strict=True))
        overlaps = [float((maps[number][region] >= threshold).mean()) for number, region in regions]
        curve.append((false / n_good, sum(overlaps) / len(overlaps)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 >= fpr_limit:
            break
        if x1 > fpr_limit:
            y1 = y0 + (y1 - y0) * (fpr_limit - x0) / (x1 - x0)
            x1 = fpr_limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / fpr_limit


def random_maps(rng, *, n=6, shape=(24, 17), levels=None):
    maps, masks = [], []
    for number in range(n):
        mask = np.zeros(shape, dtype=bool)
        if number % 2:
            mask[3:7, 2:5] = True
            mask[15:20, 8 : 9 + number] = True
        noise = rng.normal(size=shape) + 1.5 * mask
        maps.append((np.round(noise * levels) / levels if levels else noise).astype(np.float32))
        masks.append(mask)
    return maps, masks


@given(tied_samples)
def test_image_figures_agree_with_scikit_learn_on_tied_scores(rows):
    labels = np.array([bad for bad, _ in rows])
    scores = np.array([score for _, score in rows])
    assert metrics.i_auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.ap(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@given(tied_samples)
def test_curves_agree_with_scikit_learn(rows):
    labels = np.array([bad for bad, _ in rows])
    scores = np.array([score for _, score in rows])
    roc = metrics.roc_curve(labels, scores)
    fpr, tpr, thresholds = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc.fpr, fpr)
    np.testing.assert_allclose(roc.tpr, tpr)
    np.testing.assert_array_equal(roc.thresholds, thresholds)
    pr = metrics.pr_curve(labels, scores)
    precision, recall, thresholds = precision_recall_curve(labels, scores)  # rising thresholds, (1, 0) at the end
    np.testing.assert_allclose(pr.precision, precision[-2::-1])
    np.testing.assert_allclose(pr.recall, recall[-2::-1])
    np.testing.assert_array_equal(pr.thresholds, thresholds[::-1])


def test_figures_are_none_where_a_class_is_missing_or_nothing_is_there():
    for labels in ([0, 0, 0], [1, 1, 1]):
        assert metrics.i_auroc(labels, [0.1, 0.2, 0.3]) is None
        assert metrics.ap(labels, [0.1, 0.2, 0.3]) is None
    assert metrics.i_auroc([], []) is None
    assert metrics.ap([], []) is None


def test_a_curve_of_one_class_says_how_many_of_each_there_are():
    with pytest.raises(SsnError, match="3 good, 0 bad"):
        metrics.roc_curve([0, 0, 0], [1.0, 2.0, 3.0])
    with pytest.raises(SsnError, match="0 good, 2 bad"):
        metrics.pr_curve([1, 1], [1.0, 2.0])
    with pytest.raises(SsnError, match="0 good, 0 bad"):
        metrics.roc_curve([], [])


@pytest.mark.parametrize("function", [metrics.i_auroc, metrics.ap, metrics.roc_curve, metrics.pr_curve])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused_and_named(function, value):
    with pytest.raises(SsnError, match=f"Score number 2 of 3 is not finite: {value}"):
        function([0, 1, 0], [0.0, value, 1.0])


def test_labels_other_than_zero_and_one_are_refused():
    with pytest.raises(SsnError, match="A label is not usable: 2"):
        metrics.i_auroc([0, 1, 2], [0.0, 1.0, 2.0])


def test_labels_and_scores_of_different_length_are_a_bug_not_a_message():
    with pytest.raises(ValueError, match="equally long"):
        metrics.ap([0, 1], [0.0, 1.0, 2.0])


@pytest.mark.parametrize("levels", [None, 4], ids=["distinct", "tied"])
def test_pixel_figures_agree_with_scikit_learn_and_the_definition(levels):
    maps, masks = random_maps(np.random.default_rng(3), levels=levels)
    flat = np.concatenate([one.ravel() for one in maps])
    truth = np.concatenate([mask.ravel() for mask in masks])
    found = metrics.pixel_metrics(maps, masks)
    assert found.p_auroc == pytest.approx(roc_auc_score(truth, flat), abs=1e-9)
    assert found.ap_loc == pytest.approx(average_precision_score(truth, flat), abs=1e-9)
    assert found.aupro == pytest.approx(naive_aupro(maps, masks, 0.3), abs=1e-9)
    assert (found.n_images, found.n_masks) == (6, 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5]), st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_agrees_with_its_definition(seed, levels, fpr_limit):
    rng = np.random.default_rng(seed)
    masks = [rng.random((6, 7)) < 0.25 for _ in range(3)]
    masks[0][0, 0], masks[0][5, 6] = True, False
    maps = [np.round(rng.random((6, 7)) * levels) / levels for _ in range(3)]
    assert metrics.aupro(maps, masks, fpr_limit=fpr_limit) == pytest.approx(
        naive_aupro(maps, masks, fpr_limit), abs=1e-6
    )


def test_aupro_weighs_regions_alike_and_joins_diagonal_pixels():
    mask = np.zeros((10, 10), dtype=bool)
    mask[0, 0] = mask[1, 1] = True  # one region by its corner
    mask[5:9, 5:9] = True
    anomaly_map = np.zeros((10, 10))
    anomaly_map[0, 0] = anomaly_map[1, 1] = 1.0  # the small region is found, the large one looks like the good rest
    # Overlap 1/2 at FPR 0; then one straight line to (1, 1), because everything else is tied.
    assert metrics.aupro([anomaly_map], [mask], fpr_limit=0.3) == pytest.approx((0.5 + 0.65) / 2)


def test_a_perfect_and_a_constant_map_have_the_figures_they_must_have():
    mask = np.zeros((8, 8), dtype=bool)
    mask[2:4, 2:4] = True
    perfect = metrics.pixel_metrics([mask.astype(np.float32)], [mask])
    assert (perfect.p_auroc, perfect.ap_loc, perfect.aupro) == (1.0, 1.0, 1.0)
    constant = metrics.pixel_metrics([np.zeros((8, 8), np.float32)], [mask])
    assert constant.p_auroc == 0.5
    assert constant.ap_loc == pytest.approx(4 / 64)
    assert constant.aupro == pytest.approx(0.15)


def test_pixel_figures_are_none_without_a_defect_or_without_a_good_pixel():
    good = np.zeros((4, 4), dtype=bool)
    anomaly_map = np.ones((4, 4), np.float32)
    assert metrics.pixel_metrics([anomaly_map], [good]) == metrics.PixelMetrics(None, None, None, 1, 0)
    assert metrics.pixel_metrics([anomaly_map], [~good]) == metrics.PixelMetrics(None, None, None, 1, 1)
    assert metrics.pixel_metrics([], []) == metrics.PixelMetrics(None, None, None, 0, 0)
    assert metrics.aupro([], []) is None


def test_a_map_that_is_not_finite_is_refused_by_its_number():
    maps = [np.zeros((3, 3), np.float32), np.full((3, 3), np.nan, np.float32)]
    with pytest.raises(SsnError, match="Anomaly map 2 holds a value that is not finite: nan"):
        metrics.pixel_metrics(maps, [np.zeros((3, 3), bool)] * 2)


def test_maps_and_masks_must_pair_up():
    with pytest.raises(ValueError, match="same"):
        metrics.pixel_metrics([np.zeros((3, 3), np.float32)], [np.zeros((3, 4), bool)])
    with pytest.raises(ValueError, match="zip"):
        metrics.pixel_metrics([np.zeros((3, 3), np.float32)], [])


def test_a_region_counts_once_however_many_pieces_it_has():
    anomaly_map = np.arange(16, dtype=np.float32).reshape(4, 4)
    regions = np.zeros((4, 4), np.int32)
    regions[0, :2] = regions[3, 2:] = 7  # one region in two pieces: what scaling makes of a thin one
    regions[2, 0] = 3
    counts = metrics.PixelCounts()
    counts.add_defects(anomaly_map, regions)
    counts.add(anomaly_map, regions > 0)
    # Half of region 7 lies above every good pixel; all else lies below so many that it is not found up to FPR 0.3.
    assert counts.aupro(0.3) == pytest.approx((0.5 + 0.0) / 2)
    assert metrics.aupro([anomaly_map], [regions > 0]) == pytest.approx((1.0 + 0.0 + 0.0) / 3)  # a region each


def test_a_caller_may_reuse_one_buffer_for_every_map():
    maps, masks = random_maps(np.random.default_rng(5))
    buffer = np.empty((24, 17), np.float32)
    counts = metrics.PixelCounts()
    for one, mask in zip(maps, masks, strict=True):
        buffer[:] = one
        counts.add_defects(buffer, metrics.regions_of(mask))
    for one, mask in zip(maps, masks, strict=True):
        buffer[:] = one
        counts.add(buffer, mask)
    assert counts.metrics() == metrics.pixel_metrics(maps, masks)


def test_defects_that_come_after_good_pixels_were_counted_are_refused():
    counts = metrics.PixelCounts()
    counts.add(np.zeros((3, 3), np.float32), np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match="before"):
        counts.add_defects(np.zeros((3, 3), np.float32), np.ones((3, 3), np.int32))


def test_memory_does_not_grow_with_the_good_images():
    mask = np.zeros((64, 64), dtype=bool)
    mask[:4, :4] = True
    rng = np.random.default_rng(2)
    marked, good = rng.random((64, 64), dtype=np.float32), rng.random((64, 64), dtype=np.float32)

    def held(n_good):
        counts = metrics.PixelCounts()
        counts.add_defects(marked, metrics.regions_of(mask))
        tracemalloc.start()
        counts.add(marked, mask)
        for _ in range(n_good):
            counts.add(good, np.zeros_like(mask))
        current, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return current

    assert held(200) < held(2) + good.nbytes


def test_seven_million_pixels_take_seconds():
    rng = np.random.default_rng(1)
    mask = np.zeros((704, 256), dtype=bool)
    mask[300:310, 40:200] = True
    maps = [rng.normal(size=(704, 256)).astype(np.float32) + (number % 4 == 0) * mask for number in range(40)]
    started = time.perf_counter()
    metrics.pixel_metrics(maps, [mask & (number % 4 == 0) for number in range(40)])
    assert time.perf_counter() - started < 15
