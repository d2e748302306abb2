"""Pairs in mapped files are the pairs that Python lists held."""

from dataclasses import replace

import numpy as np
import pytest

from drift.records import stable_hash
from drift.training.batch import StepCollator
from drift.training.pairs_file import PairsFile, write_tokens
from drift.training.reference import _pairs_id
from drift.training.tokens import TokenPair, with_mismatched


def rows(count: int) -> list[TokenPair]:
    """Pairs, replies alone and follow-ups, of several lengths; the largest token ids of any tokenizer."""

    def one(n: int) -> TokenPair:
        prompt, chosen = tuple(range(1, 3 + n % 4)), (200_000 + n,) * (1 + n % 3)
        rejected = () if n % 3 == 1 else (7, n)
        informed = (*prompt, 5) if n % 5 == 0 else ()
        return TokenPair(prompt, () if n % 3 == 2 else chosen, rejected, 0.1 * n, n / 100, informed=informed)

    return [one(n) for n in range(count)]


def plain(pair: TokenPair) -> str:
    return repr(pair)  # NaN is not equal to itself


def test_what_is_read_is_what_was_written(tmp_path):
    pairs = rows(11)
    assert write_tokens(tmp_path, iter(pairs)) == sum(
        len(part) for pair in pairs for part in (pair.prompt, pair.chosen, pair.rejected, pair.informed)
    )
    read = PairsFile(tmp_path, None, 0)
    assert [plain(pair) for pair in read] == [plain(pair) for pair in pairs]
    assert len(read) == 11
    assert plain(read[np.int64(3)]) == plain(pairs[3])
    with pytest.raises(IndexError):
        read[11]


@pytest.mark.parametrize(("count", "batch_size"), [(5, 3), (4, 3), (3, 8), (3, 1), (1, 4)])
def test_the_rows_of_a_batch_exchange_the_replies_that_lists_exchange(tmp_path, count, batch_size):
    pairs = rows(count)
    write_tokens(tmp_path, pairs)
    found = [plain(pair) for pair in PairsFile(tmp_path, batch_size, 6)]
    assert found == [plain(pair) for pair in with_mismatched(pairs, batch_size, 6)]


@pytest.mark.parametrize("mismatched", [False, True])
def test_the_name_of_all_pairs_is_the_hash_of_their_list(mismatched):
    pairs = [replace(pair, mismatched=(4, 4)) for pair in rows(9)] if mismatched else rows(9)
    parts = [(p.prompt, p.chosen, p.rejected, p.mismatched)[: 4 if mismatched else 3] for p in pairs]
    assert _pairs_id(pairs) == stable_hash(parts)
    assert _pairs_id([]) == stable_hash([])


@pytest.mark.parametrize(("count", "processes"), [(7, 2), (7, 3), (2, 3), (1, 4), (8, 1)])
def test_each_process_makes_its_micro_batches_alone(count, processes):
    pairs = [TokenPair((1, 2), (3,) * (1 + n), (4,), weight=1 + n % 2) for n in range(count)]
    whole_step = StepCollator(0, 1, True)(pairs)  # a pair each
    shares = [StepCollator(0, 1, True, processes=processes, process=n)(pairs) for n in range(processes)]
    assert len({len(share) for share in shares}) == 1  # all make the same number of passes
    counted = [[batch for batch in share if batch.counted] for share in shares]
    assert sum(map(len, counted)) == len(whole_step) == count
    for number, share in enumerate(shares):
        for own, expected in zip(counted[number], whole_step[number::processes], strict=True):
            assert own.rows.input_ids.tolist() == expected.rows.input_ids.tolist()
            assert own.weights.tolist() == expected.weights.tolist()
        for idle in share[len(counted[number]) :]:
            assert idle.weights.sum() == idle.token_weights.sum() == 0
