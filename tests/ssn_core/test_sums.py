import math

import numpy as np
import pytest

from ssn_core.sums import sum_of_products


@pytest.mark.parametrize("n", [0, 1, 7, 60_000])
@pytest.mark.parametrize("kinds", [(np.float64, np.float64), (np.int64, np.float64), (np.int64, np.int64)])
def test_it_is_the_inner_product(n, kinds):
    rng = np.random.default_rng(n)
    first, second = (rng.normal(0, 100, 2 * n).astype(kind)[::2] for kind in kinds)
    exact = math.fsum(float(a) * float(b) for a, b in zip(first, second, strict=True))
    found = sum_of_products(first, second)
    assert isinstance(found, float)
    assert found == pytest.approx(exact, rel=1e-12, abs=1e-6)


def test_vectors_of_different_length_are_refused():
    for n in (1, 3):
        with pytest.raises(ValueError, match="no inner product"):
            sum_of_products(np.ones(n), np.ones(4))
