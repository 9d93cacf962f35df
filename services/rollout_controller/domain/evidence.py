"""What a stage proves: no failures in ten devices bound the failure rate at 26 %, not at zero."""

from math import comb, fsum

_BISECTIONS = 60


def failure_rate_bound(failed: int, observed: int, *, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper bound on the failure rate after `failed` of `observed` devices failed.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26 (1934): the rate at which so few failures have a probability of only ``1 - confidence``.
    Nothing observed proves nothing: the bound is 1.
    """
    if failed >= observed:
        return 1.0
    if failed == 0:
        return float(1.0 - (1.0 - confidence) ** (1.0 / observed))
    low, high = failed / observed, 1.0
    for _ in range(_BISECTIONS):
        rate = (low + high) / 2
        few = fsum(comb(observed, k) * rate**k * (1 - rate) ** (observed - k) for k in range(failed + 1))
        low, high = (rate, high) if few > 1.0 - confidence else (low, rate)
    return high
