"""Disliked reply or fresh one? A person decides blind; the share of fresh wins is p_imp.

(DRIFT, theorem 1: p_imp is the probability that the chosen reply really beats the rejected one. The paper assumes that
it is high.)
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drift.errors import DataError
from drift.records import PreferencePair, read_jsonl
from drift.review.estimate import seconds_left
from drift.rundir import layout
from drift.statistics import Share, posterior_share
from drift.store import ReviewedPreference, Reviews, shown_pair

Side = Literal["left", "right", "tie"]


@dataclass(frozen=True, slots=True)
class AuditedImprovement:
    """`p_imp`: share of decided pairs in which the fresh reply won (a tie counts half); None without one.
    `seconds_left`: None before a pace is known. `others`: this reviewer's decisions on other texts under the ids of
    these pairs: of the run before it was made again, or of another run of this name."""

    p_imp: Share | None
    decided: int
    total: int
    seconds_left: float | None
    others: int


class BlindComparison:
    """The pairs of a run's latest iteration; order and sides are drawn by hash.

    Raises DataError if the run has no pairs.
    """

    def __init__(self, run: Path, reviews: Reviews, reviewer: str) -> None:
        self.run, self._reviews, self.reviewer = run.name, reviews, reviewer
        files = [file for folder in layout.iteration_folders(run) if (file := folder / layout.PAIRS).is_file()]
        if not files:
            raise DataError(
                f"{run}: holds no pairs of an iteration. Run its first iteration: drift run CONFIG --out {run}"
            )
        rows = list(read_jsonl(files[-1], PreferencePair))
        pairs = [row for row in rows if row.is_paired]
        if rows and not pairs:
            raise DataError(
                f"{files[-1]}: no two replies to compare; the run's recipe uses replies without a partner. `drift "
                "review --store DIR` audits the labels that it learns from."
            )
        self.pairs = sorted(pairs, key=lambda pair: _digest("order", pair.pair_id))
        self._shown = {pair.pair_id: shown_pair(pair) for pair in pairs}

    def current(self) -> PreferencePair | None:
        decided = {preference.pair_id for preference in self._mine()}
        return next((pair for pair in self.pairs if pair.pair_id not in decided), None)

    def pair(self, pair_id: str) -> PreferencePair | None:
        return next((pair for pair in self.pairs if pair.pair_id == pair_id), None)

    def decisions(self) -> list[ReviewedPreference]:
        """This reviewer's decisions on these pairs, the latest first."""
        return self._mine()[::-1]

    def decide(self, pair: PreferencePair, side: Side | None) -> None:
        """Durable on return. None: skipped."""
        fresh: Side = "left" if fresh_is_left(pair) else "right"
        winner = None if side is None else "tie" if side == "tie" else "chosen" if side == fresh else "rejected"
        self._reviews.add(ReviewedPreference(self.reviewer, self.run, pair.pair_id, winner, self._shown[pair.pair_id]))

    def undo(self) -> ReviewedPreference | None:
        last = next(iter(self.decisions()), None)
        if last is not None:
            self._reviews.remove(last)
        return last

    def improvement(self) -> AuditedImprovement:
        mine = self._mine()
        winners = [preference.winner for preference in mine]
        points = [{"chosen": 1.0, "rejected": 0.0, "tie": 0.5}[winner] for winner in winners if winner]
        left = seconds_left([preference.decided_at for preference in mine], len(self.pairs) - len(winners))
        others = sum(decision.pair_id in self._shown for decision in self._under_this_name()) - len(mine)
        return AuditedImprovement(posterior_share(sum(points), len(points)), len(mine), len(self.pairs), left, others)

    def _mine(self) -> list[ReviewedPreference]:
        shown = self._shown
        return [
            each for each in self._under_this_name() if each.pair_id in shown and each.is_about(shown[each.pair_id])
        ]

    def _under_this_name(self) -> Iterator[ReviewedPreference]:
        return self._reviews.all(ReviewedPreference, self.reviewer, self.run)


def fresh_is_left(pair: PreferencePair) -> bool:
    return _digest("side", pair.pair_id) % 2 == 0


def _digest(purpose: str, pair_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{purpose}/{pair_id}".encode()).digest()[:8], "big")
