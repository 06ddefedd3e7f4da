"""Published figures to stand beside measured ones, in per cent as their authors print them; None = not given."""

from __future__ import annotations

from dataclasses import dataclass

STUDY = "the SuperSimpleNet-Evolved study (2026)"
ICPR = "SuperSimpleNet, ICPR 2024 (arXiv 2408.03143)"
JIMS = "SuperSimpleNet, JIMS (arXiv 2508.19060)"
BOZIC = "Bozic et al. 2021 (arXiv 2104.06064)"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One row of a published comparison."""

    data: str
    recipe: str | None  # the recipe here that it corresponds to
    method: str
    labels: str
    ap_det: float | None = None
    i_auroc: float | None = None
    ap_loc: float | None = None
    p_auroc: float | None = None
    aupro: float | None = None
    source: str


def _jims(
    recipe: str, labels: str, ap_det: float, i_auroc: float, ap_loc: float, p_auroc: float, aupro: float
) -> Published:
    return Published(
        data="KSDD2",
        recipe=recipe,
        method="SuperSimpleNet",
        labels=labels,
        ap_det=ap_det,
        i_auroc=i_auroc,
        ap_loc=ap_loc,
        p_auroc=p_auroc,
        aupro=aupro,
        source=JIMS,
    )


PUBLISHED: tuple[Published, ...] = (
    Published(data="KSDD2", recipe="simplenet", method="SimpleNet", labels="none", ap_det=88.4, source=STUDY),
    Published(
        data="KSDD2",
        recipe="supersimplenet-supervised",
        method="SuperSimpleNet",
        labels="all masks",
        ap_det=97.4,
        source=ICPR,
    ),
    _jims("supersimplenet-supervised", "all masks (246)", 97.84, 99.66, 81.30, 99.39, 98.83),
    _jims("mixed", "53 masks", 97.67, 99.56, 67.95, 95.98, 96.25),
    _jims("mixed", "16 masks", 97.32, 99.55, 59.07, 92.13, 91.15),
    _jims("cam", "image labels", 97.20, 99.49, 47.64, 89.07, 87.77),
    Published(
        data="KSDD2",
        recipe="gap-cam",
        method="GAP+CAM, WideResNet50-2",
        labels="image labels",
        ap_det=94.5,
        i_auroc=98.6,
        ap_loc=7.4,
        p_auroc=87.2,
        aupro=87.4,
        source=STUDY,
    ),
    Published(data="KolektorSDD", recipe="cam", method="Bozic 2021", labels="image labels", ap_det=93.4, source=BOZIC),
    Published(
        data="KolektorSDD",
        recipe="supersimplenet-supervised",
        method="Bozic 2021",
        labels="all masks",
        ap_det=100.0,
        source=BOZIC,
    ),
    Published(
        data="MVTec AD, mean of 15",
        recipe="supersimplenet",
        method="SuperSimpleNet, WideResNet50-2",
        labels="none",
        i_auroc=98.4,
        ap_loc=49.7,
        p_auroc=97.5,
        aupro=91.1,
        source=ICPR,
    ),
)
