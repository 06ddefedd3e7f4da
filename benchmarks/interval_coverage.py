"""How often do the intervals of AUROC, AP, their differences and kappa hold the truth, and how wide are they?

    python -m benchmarks.interval_coverage

Takes about ten minutes on one thread; `--parts` and `--replications` make it shorter. Prints Markdown tables and writes
every cell, with the misses on either side, to benchmarks/results/interval-coverage.json. AUROC and AP are those of
endlessly many images of the same mix (see benchmarks.score_shapes). Cohen's kappa of two raters and two categories
is not simulated: all tables are gone through, each with its probability. `--uncorrected` measures AUROC, AP and their
differences without the correction for few images, to see what it is good for. `--parts flat`, which is not among the
parts of a plain run, measures what the intervals are not made for: parts that one model takes for the very opposite.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import special

from benchmarks.score_shapes import SHAPES, draw, draw_flat, flat_truths, truths
from ssn_core import agreement, intervals
from ssn_core.rates import Interval

Floats = NDArray[np.float64]
SIZES = ((10, 50), (20, 200), (50, 333), (100, 1000))  # bad, good
AUROCS = (0.7, 0.9, 0.97, 0.995)
PAIRS = ((0.7, 0.7), (0.7, 0.8), (0.9, 0.9), (0.9, 0.95), (0.97, 0.9), (0.97, 0.97), (0.995, 0.97), (0.995, 0.995))
CORRELATIONS = (0.36, 0.8)
PARTS = (30, 50, 100)
KAPPAS = (0.2, 0.5, 0.8, 0.95)
PREVALENCES = (0.5, 0.3, 0.125)
# The chance of each part to be called bad.
STUDIES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "40 % borderline": lambda rng, n: np.choose(
        rng.integers(0, 10, n) // 3, (0.98, 0.02, rng.random(n), rng.random(n))
    ),
    "all clear": lambda rng, n: np.where(rng.random(n) < 0.4, 0.97, 0.03),
    "few bad": lambda rng, n: np.where(rng.random(n) < 0.12, 0.9, 0.02),
    "poor raters": lambda rng, n: rng.beta(2, 2, n),
}


@dataclass(frozen=True)
class Cell:
    """Coverage in percent, the misses on either side, and the mean width."""

    figure: str
    sizes: str
    shape: str
    truth: str
    held: float
    below: float  # the truth lies below the interval
    above: float
    width: float
    replications: int | None  # None: exact


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(_PARTS), default=[part for part in _PARTS if part != "flat"])
    parser.add_argument("--replications", type=int, default=2000, help="half as many for differences and studies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--uncorrected", action="store_true", help="without the correction for few images")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/interval-coverage.json"))
    options = parser.parse_args()
    for name in _CORRECTION if options.uncorrected else ():
        setattr(intervals, name, 0.0)
    began = time.monotonic()
    cells = []
    for part in options.parts:
        cells += list(_PARTS[part](options.replications, options.seed))
        print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    for figure in dict.fromkeys(cell.figure for cell in cells):
        print(_table([cell for cell in cells if cell.figure == figure]))
    measured = {
        "command": " ".join(["python -m benchmarks.interval_coverage", *sys.argv[1:]]),
        "seed": options.seed,
        "date": datetime.now(UTC).date().isoformat(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "seconds": round(time.monotonic() - began),
        "cells": [asdict(cell) for cell in cells],
    }
    options.out.write_text(_one_cell_a_line(measured), encoding="utf-8")


def _one_cell_a_line(measured: dict[str, Any]) -> str:
    head = json.dumps({name: value for name, value in measured.items() if name != "cells"}, indent=1)
    rounded = (
        {name: round(value, 4) if isinstance(value, float) else value for name, value in cell.items()}
        for cell in measured["cells"]
    )
    lines = ",\n".join("  " + json.dumps(cell) for cell in rounded)
    return f'{head[:-2]},\n "cells": [\n{lines}\n ]\n}}\n'


def singles(replications: int, seed: int) -> Iterator[Cell]:
    """AUROC and AP of one model."""
    for (n_bad, n_good), shape, auroc in ((s, shape, a) for s in SIZES for shape in SHAPES for a in AUROCS):
        rng = np.random.default_rng(seed)
        labels = np.repeat([1, 0], [n_bad, n_good])
        true = dict(zip(("AUROC", "AP"), truths(shape, auroc, n_bad / labels.size), strict=True))
        found: dict[str, list[Interval | None]] = {"AUROC": [], "AP": []}
        for _ in range(replications):
            (scores,) = draw(rng, shape, (auroc,), n_bad=n_bad, n_good=n_good)
            found["AUROC"].append(intervals.auroc_interval(labels, scores))
            found["AP"].append(intervals.ap_interval(labels, scores))
        for figure, ends in found.items():
            yield _cell(figure, f"{n_bad}/{n_good}", shape, f"AUROC {auroc}", true[figure], ends)


def differences(replications: int, seed: int) -> Iterator[Cell]:
    """Differences of two models on the same images."""
    cells = ((s, shape, c, pair) for s in SIZES for shape in SHAPES for c in CORRELATIONS for pair in PAIRS)
    for (n_bad, n_good), shape, correlation, pair in cells:
        rng = np.random.default_rng(seed)
        labels = np.repeat([1, 0], [n_bad, n_good])
        first, second = (truths(shape, auroc, n_bad / labels.size) for auroc in pair)
        found: dict[str, list[Interval | None]] = {"difference of AUROC": [], "difference of AP": []}
        for _ in range(replications // 2):
            a, b = draw(rng, shape, pair, n_bad=n_bad, n_good=n_good, correlation=correlation)
            for figure, function in zip(found, (intervals.auroc_difference, intervals.ap_difference), strict=True):
                difference = function(labels, a, b)
                found[figure].append(difference.interval if difference else None)
        for place, (figure, ends) in enumerate(found.items()):
            truth = f"AUROC {pair[0]} less {pair[1]}"
            yield _cell(
                figure, f"{n_bad}/{n_good}", f"{shape}, {correlation}", truth, first[place] - second[place], ends
            )


def flat(replications: int, seed: int) -> Iterator[Cell]:
    """One model, and two equal ones, that separate perfectly all but a few parts, each model other ones."""
    single = {"AUROC": intervals.auroc_interval, "AP": intervals.ap_interval}
    paired = {"difference of AUROC": intervals.auroc_difference, "difference of AP": intervals.ap_difference}
    for (n_bad, n_good), kind, mean in (
        (s, kind, mean) for s in SIZES for kind in ("bad", "good") for mean in (1, 2, 3)
    ):
        rng = np.random.default_rng(seed)
        labels = np.repeat([1, 0], [n_bad, n_good])
        shares = (mean / n_bad, 0.0) if kind == "bad" else (0.0, mean / n_good)
        true = [float(figure) for figure in flat_truths(*map(np.float64, shares), n_bad / labels.size)]
        found: dict[str, list[Interval | None]] = {figure: [] for figure in (*single, *paired)}
        for _ in range(replications // 2):
            a, b = (
                draw_flat(rng, n_bad=n_bad, n_good=n_good, flat_bad=shares[0], flat_good=shares[1]) for _ in range(2)
            )
            for figure, interval in single.items():
                found[figure].append(interval(labels, a))
            for figure, function in paired.items():
                difference = function(labels, a, b)
                found[figure].append(difference.interval if difference else None)
        for (figure, ends), truth in zip(found.items(), (*true, 0.0, 0.0), strict=True):
            yield _cell(figure, f"{n_bad}/{n_good}", f"{kind} ones flat", f"{mean} in a sample", truth, ends)


def tables_of_two(_replications: int, _seed: int) -> Iterator[Cell]:
    """Cohen's kappa of two raters who call the same share of parts bad; tables without an interval are left out."""
    for n in PARTS:
        tables = np.array(
            [(i, j, k, n - i - j - k) for i in range(n + 1) for j in range(n + 1 - i) for k in range(n + 1 - i - j)]
        )
        chances = {}
        for kappa in KAPPAS:
            for bad in PREVALENCES:
                apart = (1 - kappa) * bad * (1 - bad)
                shares = np.array([bad - apart, apart, apart, 1 - bad - apart])
                logs = special.gammaln(n + 1) - special.gammaln(tables + 1).sum(axis=1)
                chances[kappa, bad] = np.exp(logs + special.xlogy(tables, shares).sum(axis=1))
        # What is rarer than this in every cell changes nothing that is printed.
        likely = np.flatnonzero(np.max(list(chances.values()), axis=0) > 1e-9)
        ends = np.full((len(tables), 2), np.nan)
        for number in likely:
            first, second = (np.repeat(called, tables[number]) for called in ([1, 1, 0, 0], [1, 0, 1, 0]))
            found = agreement.cohen_kappa(first, second).interval
            if found is not None:
                ends[number] = found.low, found.high
        there = np.isfinite(ends[:, 0])
        low, high = ends[there].T
        for (kappa, bad), chance in chances.items():
            weights = chance[there] / chance[there].sum()
            below = 100 * float(weights[kappa < low - 1e-9].sum())
            above = 100 * float(weights[kappa > high + 1e-9].sum())
            width = float(weights @ (high - low))
            yield Cell(
                "Cohen's kappa", f"{n} parts", f"{bad:.3g} bad", f"kappa {kappa}", 100 - below - above, below, above,
                width, None,
            )  # fmt: skip


def studies(replications: int, seed: int) -> Iterator[Cell]:
    """Kappa of several raters and trials, each of whom calls a part bad with the part's own chance."""
    for n in PARTS:
        for shape, chances in STUDIES.items():
            rng = np.random.default_rng(seed)
            many = chances(rng, 4_000_000)
            by_chance = many.mean() ** 2 + (1 - many.mean()) ** 2
            true = float((np.mean(many**2 + (1 - many) ** 2) - by_chance) / (1 - by_chance))
            found: dict[str, list[Interval | None]] = {"Fleiss' kappa, 3 verdicts": [], "kappa of 3 trials": []}
            for _ in range(replications // 2):
                called = rng.random((n, 4)) < chances(rng, n)[:, None]
                three, reference = called[:, :3], called[:, 3]
                counts = agreement.verdict_counts([three])
                found["Fleiss' kappa, 3 verdicts"].append(agreement.fleiss_kappa(counts).interval)
                found["kappa of 3 trials"].append(agreement.reference_kappa(three, reference).interval)
            for figure, ends in found.items():
                yield _cell(figure, f"{n} parts", shape, f"kappa {true:.2f}", true, ends)


def _cell(figure: str, sizes: str, shape: str, truth: str, true: float, found: list[Interval | None]) -> Cell:
    low, high = np.array([(end.low, end.high) for end in found if end is not None]).T
    below, above = (100 * float(np.mean(missed)) for missed in (true < low, true > high))
    width = float(np.mean(high - low))
    return Cell(figure, sizes, shape, truth, 100 - below - above, below, above, width, low.size)


def _table(cells: list[Cell]) -> str:
    """One figure's coverage and width: sizes and shapes downward, truths across."""
    lines = [f"{cells[0].figure}: coverage in % (mean width)", ""]
    for sizes in dict.fromkeys(cell.sizes for cell in cells):
        here = [cell for cell in cells if cell.sizes == sizes]
        truths_here = list(dict.fromkeys(cell.truth for cell in here))
        rows = {shape: {c.truth: c for c in here if c.shape == shape} for shape in dict.fromkeys(c.shape for c in here)}
        if any(len(row) < len(truths_here) for row in rows.values()):  # each shape has a truth of its own
            rows = {f"{shape}, {next(iter(row))}": {"": next(iter(row.values()))} for shape, row in rows.items()}
            truths_here = [""]
        lines += ["| " + " | ".join([sizes, *truths_here]) + " |", "|---" * (1 + len(truths_here)) + "|"]
        for shape, row in rows.items():
            shown = (f"{row[truth].held:.1f} ({row[truth].width:.3f})" for truth in truths_here)
            lines.append("| " + " | ".join([shape, *shown]) + " |")
        lines.append("")
    held = [cell.held for cell in cells]
    lines.append(
        f"{len(held)} cells: {min(held):.1f} to {max(held):.1f} %, mean {np.mean(held):.1f} %; "
        f"below 93.5 %: {sum(h < 93.5 for h in held)}, above 96.5 %: {sum(h > 96.5 for h in held)}\n"
    )
    return "\n".join(lines)


_CORRECTION = ("UNTOLD", "TOLD_BY_ONE", "GOOD_ABOVE", "HIDDEN_FROM_ONE", "ABOVE_IN_ONE")
_PARTS = {"singles": singles, "differences": differences, "tables": tables_of_two, "studies": studies, "flat": flat}


if __name__ == "__main__":
    main()
