"""In which cases of benchmarks.interval_coverage must an interval hold more than 96.5 %?

    python -m benchmarks.interval_limits

Takes about a minute on one thread. For every case of AUROC, AP and their differences that is above 96.5 % in
benchmarks/results/interval-coverage.json it writes in how many samples, at most, the truth could be missed by an
interval that

1. depends on nothing but which bad image scores above which good one, under either model;
2. turns round when the models change places (differences);
3. is monotone: where B gets more pairs of a bad and a good image wrong, and A none, no end of "A less B" falls, and no
   end of B's own figure rises;
4. holds the truth in 93.5 % of all cases, whatever the parts are: also where some fall flat, which is to say that a bad
   part scores below all good ones or a good one above all bad ones, and all others are separated perfectly.

The argument: leave out `k` bad and `l` good images, and B makes no mistake. Then A is no better, and B no worse, than
in a sample in which just these images fall flat in B and A is perfect. Did the interval of that one lie above t, so
would, by 3, that of every sample with as many or more images flat in B, and none in A. Where parts fall flat so often
that more than 6.5 % of all samples are of this kind while the true difference is t or less, 4 would be broken. So the
lower end is no higher than the least such t; and where the models are equal, half as often is enough, since 2 makes of
every sample in which A is called better another in which B is (`lowest_ends`). It follows that no such interval calls A
better as long as three bad images, or three good ones, explain all that B gets wrong, and that two models which hardly
make mistakes are told apart in few samples, so that equal ones are held in nearly all.

A case is called forced where the truth could be missed in less than 3.5 % of all samples, at a confidence of 99.9 %.
What is not forced is not proven, and no interval is known that would do better.

Without 3 nothing is proven of these cases. That two look alike forces nothing, either: by the lemma of Neyman and
Pearson some set of samples is at least as likely in one case as in the other, and could be that in which the truth of
the one is missed. Intervals from a standard error are not monotone everywhere, and ours do not fulfil 4 where parts
fall flat (`python -m benchmarks.interval_coverage --parts flat`).

That 93.5 to 96.5 % cannot be held in every case needs none of these four (`gaps`). Where each bad image scores the same
but for those that fall flat, a sample is told by how many did, and so is the interval of whatever method that draws no
lots. It misses the truth for some of these numbers and holds it for the others. With 20 bad images, half a percent of
them flat, none is in 90.5 % of all samples and one in 9.1 %: a method that misses either holds too little, one that
misses neither holds 99.5 %. That is so for the rate of escapes, for AUROC and AP, and for their differences from a
perfect model.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import special

from benchmarks.interval_coverage import AUROCS, CORRELATIONS, PAIRS, SIZES
from benchmarks.score_shapes import SHAPES, draw, flat_truths, truths

Floats = NDArray[np.float64]
FIGURES = ("AUROC", "AP")
MOST_MISSED, LEAST_MISSED = 0.065, 0.035  # 93.5 to 96.5 % are asked for
KNOWN = 7  # so many flat images of a class are followed; with more, nothing is concluded
SURE = 0.999
RARE, COMMON = 0.0005, 0.3  # shares of flat images that are gone through
FIRST = 200  # replications after which hopeless cases are left


@dataclass(frozen=True)
class Limit:
    """What is known of one case above 96.5 %; all but the names in percent."""

    figure: str
    sizes: str
    shape: str
    truth: str
    held: float  # by our interval
    missed_at_most: float  # samples in which an interval that fulfils 1 to 4 could miss the truth
    surely_at_most: float  # the same, with a confidence of 99.9 %
    forced: bool
    same: float  # samples in which both models have the same AUROC; of one model, in which it separates perfectly
    replications: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--coverage", type=Path, default=Path("benchmarks/results/interval-coverage.json"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/interval-limits.json"))
    options = parser.parse_args()
    began = time.monotonic()
    measured = json.loads(options.coverage.read_text(encoding="utf-8"))
    held = {
        tuple(cell[name] for name in ("figure", "sizes", "shape", "truth")): cell["held"] for cell in measured["cells"]
    }
    found = list(limits(options.replications, options.seed, held))
    print("| Figure | bad/good | above 96.5 % | forced | not proven |\n|---|---|---|---|---|")
    for figure, sizes in dict.fromkeys((limit.figure, limit.sizes) for limit in found):
        here = [limit.forced for limit in found if (limit.figure, limit.sizes) == (figure, sizes)]
        print(f"| {figure} | {sizes} | {len(here)} | {sum(here)} | {len(here) - sum(here)} |")
    print("| Bad images | share that is flat, where no interval holds 93.5 to 96.5 % |\n|---|---|")
    holes = {n_bad: gaps(n_bad) for n_bad, _ in SIZES}
    for n_bad, ranges in holes.items():
        print(f"| {n_bad} | {', '.join(f'{100 * low:.3g} to {100 * high:.3g} %' for low, high in ranges)} |")
    head = {
        "command": " ".join(["python -m benchmarks.interval_limits", *sys.argv[1:]]),
        "seed": options.seed,
        "replications": options.replications,
        "date": datetime.now(UTC).date().isoformat(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "seconds": round(time.monotonic() - began),
        "shares_searched": [RARE, COMMON],
        "gaps": {n_bad: [[round(end, 5) for end in ends] for ends in ranges] for n_bad, ranges in holes.items()},
    }
    options.out.write_text(_one_limit_a_line(head, found), encoding="utf-8")


def limits(
    replications: int,
    seed: int,
    held: dict[tuple[str, str, str, str], float],
    sizes: tuple[tuple[int, int], ...] = SIZES,
) -> Iterator[Limit]:
    """Every case of `held` (figure, sizes, shape, truth: coverage in percent) above 96.5 %."""
    for n_bad, n_good in sizes:
        lowest = lowest_ends(n_bad, n_good)
        highest = highest_ends(n_bad, n_good)
        perfect = perfect_ends(n_bad, n_good)
        share_bad = n_bad / (n_bad + n_good)
        cases = [(shape, None, (auroc,)) for shape in SHAPES for auroc in AUROCS]
        cases += [(shape, c, pair) for shape in SHAPES for c in CORRELATIONS for pair in PAIRS]
        for shape, correlation, aurocs in cases:
            single = correlation is None
            truth = f"AUROC {aurocs[0]}" if single else f"AUROC {aurocs[0]} less {aurocs[1]}"
            named = shape if single else f"{shape}, {correlation}"
            keys = [(f if single else f"difference of {f}", f"{n_bad}/{n_good}", named, truth) for f in FIGURES]
            if all(held.get(key, 0.0) <= 100 * (1 - LEAST_MISSED) for key in keys):
                continue
            rng = np.random.default_rng(seed)
            true = [truths(shape, auroc, share_bad) for auroc in aurocs]
            figures: list[float] = [one if single else one - true[1][place] for place, one in enumerate(true[0])]
            told: list[list[bool]] = []
            same = 0
            while len(told) < replications:
                if len(told) == FIRST and np.mean(told, axis=0).min() > 3 * LEAST_MISSED:
                    break  # nothing will be proven here
                drawn = draw(rng, shape, aurocs, n_bad=n_bad, n_good=n_good, correlation=correlation or 0.0)
                covers = [_cover(scores[:n_bad], scores[n_bad:]) for scores in drawn]
                wrong = [_wrong(scores[:n_bad], scores[n_bad:]) for scores in drawn]
                same += wrong[0] == (0 if single else wrong[1])
                if single:
                    told.append(
                        [
                            t < least or _least(ends, covers[0]) < t
                            for t, least, ends in zip(figures, perfect, highest, strict=True)
                        ]
                    )
                else:
                    told.append(
                        [
                            -_least(-ends, covers[1]) > t or _least(-ends, covers[0]) < t
                            for t, ends in zip(figures, lowest, strict=True)
                        ]
                    )
            for place, key in enumerate(keys):
                if held.get(key, 0.0) > 100 * (1 - LEAST_MISSED):
                    count = sum(row[place] for row in told)
                    # The exact bound of Clopper and Pearson.
                    most = float(special.betaincinv(count + 1, len(told) - count, SURE)) if count < len(told) else 1.0
                    yield Limit(
                        *key,
                        held=held[key],
                        missed_at_most=100 * count / len(told),
                        surely_at_most=100 * most,
                        forced=most < LEAST_MISSED,
                        same=100 * same / len(told),
                        replications=len(told),
                    )


def gaps(n: int) -> list[tuple[float, float]]:
    """The shares of flat ones among `n` images where no method holds the truth in 93.5 to 96.5 % of all samples.

    A number of flat images that more than 6.5 % of all samples have must not be missed. Where all others together make
    less than 3.5 %, no choice among them leads to 93.5 to 96.5 %.
    """
    shares = np.geomspace(RARE, COMMON, 4000)
    chances = np.diff(special.bdtr(np.arange(n + 1), n, shares[:, None]), axis=1, prepend=0.0)
    left = np.sum(chances, axis=1, where=chances <= MOST_MISSED)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], left < LEAST_MISSED, [False])).astype(int)))
    return [
        (float(shares[first]), float(shares[last - 1])) for first, last in zip(edges[::2], edges[1::2], strict=True)
    ]


def perfect_ends(n_bad: int, n_good: int) -> list[float]:
    """AUROC and AP: the highest that the lower end can be at perfect separation."""
    shares = np.concatenate(([0.0], np.geomspace(1e-5, 0.9, 4000)))
    ends = []
    for place in range(len(FIGURES)):
        found = []
        for bad, good in ((shares, np.zeros(1)), (np.zeros(1), shares)):
            often = (1 - bad) ** n_bad * (1 - good) ** n_good > MOST_MISSED
            found.append(flat_truths(bad, good, n_bad / (n_bad + n_good))[place][often].min())
        ends.append(float(min(found)))
    return ends


def highest_ends(n_bad: int, n_good: int) -> list[Floats]:
    """AUROC and AP: the lowest that the upper end can be with so many bad and good images flat, (KNOWN + 1, same)."""
    shares = np.concatenate(([0.0], np.geomspace(1e-5, 0.9, 400)))
    of_bad, of_good = (_at_least(n, shares, np.zeros(1))[:, 0] for n in (n_bad, n_good))
    ends = []
    for values in flat_truths(shares[:, None], shares, n_bad / (n_bad + n_good)):
        ends.append(
            np.array(
                [
                    [np.max(values, where=bad[:, None] * good > MOST_MISSED, initial=0.0) for good in of_good]
                    for bad in of_bad
                ]
            )
        )
    return ends


def lowest_ends(n_bad: int, n_good: int) -> list[Floats]:
    """Differences of AUROC and of AP: the highest that the lower end can be, (KNOWN + 1, KNOWN + 1).

    By how many bad and good images are flat in B, while A is perfect. 1 where nothing is concluded.
    """
    share_bad = n_bad / (n_bad + n_good)
    worse = np.concatenate(([0.0], np.geomspace(0.002, 0.6, 24)))  # shares that are flat in B
    better = [
        np.concatenate(([0.0], np.geomspace(0.02, 1, 11) * (1 - (MOST_MISSED + 1e-6) ** (1 / n))))
        for n in (n_bad, n_good)
    ]
    of_bad, of_good = (_at_least(n, worse, own) for n, own in zip((n_bad, n_good), better, strict=True))
    of_a = flat_truths(better[0][:, None], better[1], share_bad)
    of_b = flat_truths(worse[:, None], worse, share_bad)
    equal = np.concatenate(([0.0], np.geomspace(1e-4, 0.49, 300)))
    alike = [
        np.stack([one[k].diagonal() for k in range(KNOWN + 1)])
        for one in (_at_least(n, equal, equal) for n in (n_bad, n_good))
    ]
    ends = []
    for a, b in zip(of_a, of_b, strict=True):
        less = a[:, None, :, None] - b[None, :, None, :]  # flat bad in A, bad in B, good in A, good in B
        end = np.ones((KNOWN + 1, KNOWN + 1))
        for bad in range(KNOWN + 1):
            for good in range(KNOWN + 1):
                often = of_bad[bad][:, :, None, None] * of_good[good] > MOST_MISSED
                end[bad, good] = np.min(less, where=often, initial=1.0)
                # Of equal models, either would be called worse.
                if bad + good and 2 * alike[0][bad].max() * alike[1][good].max() > MOST_MISSED:
                    end[bad, good] = min(end[bad, good], 0.0)
        ends.append(end)
    return ends


def _at_least(n: int, flat_in_b: Floats, flat_in_a: Floats) -> Floats:
    """The chance that of n images 0, 1 .. KNOWN or more are flat in B and none in A: (KNOWN + 1, A, B)."""
    own, other = flat_in_a[:, None], flat_in_b[None, :]
    share = np.minimum(other / (1 - own), 1.0)
    possible = own + other <= 1
    return np.stack(
        [
            np.where(possible, (1 - own) ** n * (special.bdtrc(k - 1, n, share) if k else 1.0), 0.0)
            for k in range(KNOWN + 1)
        ]
    )


def _cover(bad: Floats, good: Floats) -> NDArray[np.int64]:
    """Numbers (P, 2) of bad and good images without which no pair is wrong or level."""
    lowest = np.sort(bad)[: KNOWN + 1]
    above = good.size - np.searchsorted(np.sort(good), lowest, "left")
    pairs = np.stack([np.arange(lowest.size), above], axis=1)
    if bad.size <= KNOWN:
        pairs = np.concatenate((pairs, [[bad.size, 0]]))
    return pairs[pairs[:, 1] <= KNOWN]


def _least(ends: Floats, cover: NDArray[np.int64]) -> float:
    """How low the upper end can be at least, by the cover that says most; -1 where none is known."""
    return float(np.max(ends[cover[:, 0], cover[:, 1]], initial=-1.0))


def _wrong(bad: Floats, good: Floats) -> int:
    """Twice the number of pairs in which the bad image does not score higher, level ones counting half."""
    ordered = np.sort(good)
    return int(np.sum(2 * good.size - np.searchsorted(ordered, bad, "left") - np.searchsorted(ordered, bad, "right")))


def _one_limit_a_line(head: dict[str, Any], found: list[Limit]) -> str:
    rounded = ({n: round(v, 4) if isinstance(v, float) else v for n, v in asdict(limit).items()} for limit in found)
    lines = ",\n".join("  " + json.dumps(limit) for limit in rounded)
    return f'{json.dumps(head, indent=1)[:-2]},\n "limits": [\n{lines}\n ]\n}}\n'


if __name__ == "__main__":
    main()
