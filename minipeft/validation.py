"""Whether a setting is of the right kind; the caller says what is wrong in its own words."""

import numpy as np


def is_bool(value):
    """True for True and False, Python's or NumPy's; 0 and 1 are whole numbers."""
    return isinstance(value, (bool, np.bool_))


def is_whole(value, low=-np.inf, high=np.inf):
    """True for an integer, Python's or NumPy's, in low ... high; a bool is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and low <= value <= high


def is_seed(value):
    """True for what a generator can start from and a file can hold: a whole number of at least 0, or None (chance)."""
    return value is None or is_whole(value, 0)


def is_real(value):
    """True for a finite number, Python's or NumPy's, that a float can hold; a bool is none."""
    if not isinstance(value, (int, float, np.number)) or isinstance(value, bool):
        return False
    try:
        return bool(np.isfinite(float(value)))
    except (OverflowError, TypeError):  # a whole number with hundreds of digits; a complex number
        return False
