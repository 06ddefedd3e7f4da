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


@dataclass(frozen=True, kw_only=True)
class PublishedSpeed:
    """Speed and memory of one network on its authors' machine, and its I-AUROC where one is given with it."""

    method: str
    backbone: str
    device: str
    latency_ms: float | None = None  # of one image
    images_per_s: float | None = None
    gpu_mb: float | None = None
    parameters: float | None = None  # millions
    gflop: float | None = None
    i_auroc: tuple[tuple[str, float], ...] = ()  # (data, per cent)
    source: str


def _on_p100(
    method: str,
    backbone: str,
    figures: tuple[float, float, float] | None,
    *,
    parameters: float | None = None,
    bottle: float | None = None,
    screw: float,
) -> PublishedSpeed:
    """A row of the study's table; `figures` are latency, GPU memory and images a second."""
    latency, gpu, rate = figures or (None, None, None)
    given = (("MVTec bottle", bottle), ("MVTec screw", screw))
    return PublishedSpeed(
        method=method,
        backbone=backbone,
        device="P100",
        latency_ms=latency,
        gpu_mb=gpu,
        images_per_s=rate,
        parameters=parameters,
        i_auroc=tuple((data, value) for data, value in given if value is not None),
        source=STUDY,
    )


PUBLISHED_SPEED: tuple[PublishedSpeed, ...] = (
    _on_p100("SuperSimpleNet", "WideResNet50-2", (25.58, 270.5, 96.7), parameters=33.7, bottle=100.0, screw=91.2),
    _on_p100("Scenario A", "ResNet18", (7.78, 52.4, 398.5), parameters=4.5, bottle=100.0, screw=51.1),
    _on_p100("Scenario B, conv adaptor", "ResNet18", (8.36, 85.9, 352.7), parameters=5.7, bottle=71.3, screw=46.6),
    _on_p100("A with learned noise, beta 0.05", "ResNet18", (7.83, 54.5, 396.6), screw=72.3),
    _on_p100("A with learned noise, beta 0.1", "ResNet18", None, screw=67.8),
    PublishedSpeed(
        method="SuperSimpleNet, half precision",
        backbone="WideResNet50-2",
        device="V100S",
        latency_ms=9.3,
        images_per_s=268.0,
        gflop=56.3,
        i_auroc=(("MVTec AD, mean of 15", 98.4),),
        source=ICPR,
    ),
)
