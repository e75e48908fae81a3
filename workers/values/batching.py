"""How a window of texts is cut into batches: pure Python, no Django, no Redis, no torch."""

from collections.abc import Sequence


def cut(lengths: Sequence[int], most_items: int, most_tokens: int, call: int) -> list[list[int]]:
    """Indices into `lengths` (tokens of each text), batch by batch, shortest texts first.

    A batch costs its padded tokens, longest text times number of texts, and `call`, what a model
    call costs besides its tokens, in tokens; the cut with the least sum is found, among cuts with
    at most `most_items` texts and `most_tokens` padded tokens in a batch. A text that is over the
    budget alone runs alone.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    # best[n]: least cost of the n shortest texts, and where their last batch begins.
    best = [(0, 0)]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        choices = [(best[end - 1][0] + longest + call, end - 1)]
        for begin in range(end - 2, max(-1, end - most_items - 1), -1):
            padded = longest * (end - begin)
            if padded > most_tokens:
                break
            choices.append((best[begin][0] + padded + call, begin))
        best.append(min(choices))
    batches = []
    end = len(order)
    while end:
        begin = best[end][1]
        batches.append(order[begin:end])
        end = begin
    return batches[::-1]
