"""What of a sample was learned by heart: stretches that stand, token for token, in the training text."""

import numpy as np

RUN = 8  # tokens; shorter stretches are phrases that many texts have, such as "at the end of the"


def copied(sample: np.ndarray, text: np.ndarray, run: int = RUN, ends=()) -> tuple[float, np.ndarray]:
    """(share of the sample's tokens that lie in stretches copied from the text, the longest of them).

    A stretch is copied if it has `run` tokens or more, and stands in the text in the same order.  ends: tokens that no
    stretch reaches across, such as the end of a line: where one sentence of a list follows another is chance.

    Shapes:  sample (T,), text (L,), token ids both; the longest stretch is empty if there is none
    Raises:  ValueError for an empty sample, or a run below 1
    """
    sample, text = np.asarray(sample), np.asarray(text)
    if not len(sample) or run < 1:
        raise ValueError(f"a sample needs at least one token, and a run too: {len(sample)} tokens, run {run}")
    seen = {tuple(text[i : i + run]) for i in range(len(text) - run + 1)}
    seen = {stretch for stretch in seen if not set(ends) & set(stretch)}
    inside, longest = np.zeros(len(sample), bool), sample[:0]
    starts = [i for i in range(len(sample) - run + 1) if tuple(sample[i : i + run]) in seen]
    for i in starts:
        inside[i : i + run] = True
    for i in starts:
        end = longest_match(
            sample[i : next((j for j in range(i, len(sample)) if sample[j] in ends), len(sample))], text
        )
        if end > len(longest):
            longest = sample[i : i + end]
    return float(inside.mean()), longest


def longest_match(sample, text):
    """How many tokens at the beginning of the sample stand somewhere in the text, in this order."""
    places, n = np.flatnonzero(text == sample[0]), 1
    while n < len(sample):
        places = places[places + n < len(text)]
        places = places[text[places + n] == sample[n]]
        if not len(places):
            break
        n += 1
    return n
