"""The wait before a further try: exponential back-off with jitter, for whatever may be away for a while."""

from __future__ import annotations


def backoff_s(failures: int, jitter: float, first_s: float, longest_s: float) -> float:
    """Seconds to wait after `failures` failures in a row: doubling from `first_s` up to `longest_s`, times 0.5 to 1 by `jitter` in [0, 1].

    The jitter keeps many clients of one server from coming back all at once.

    >>> [backoff_s(failures, 1.0, first_s=1.0, longest_s=5.0) for failures in range(4)]
    [1.0, 2.0, 4.0, 5.0]
    """
    return float(min(longest_s, first_s * 2.0 ** min(failures, 20)) * (0.5 + 0.5 * jitter))
