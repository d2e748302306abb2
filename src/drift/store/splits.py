"""Splits in time order: what is held out are the latest conversations, and it stays held out as the store grows.

The borders are taken anew for each generation of a chain, among the conversations that came since the one before; what
an earlier generation read keeps the borders of that generation.
"""

from collections.abc import Mapping, Sequence

from drift.records import ReadMark

SHARES = [0.8, 0.85, 0.9]  # up to the first: train; then stop, validation and, from the last on, test
BORDERS = ("stop", "validation", "test")
MOMENT = "epoch(try_cast(started_at AS TIMESTAMPTZ))"  # seconds since 1970, from any time zone


def borders_query(number: str) -> str:
    """The borders among conversations whose first ingestion, `number`, is after $after: one row, a list or NULL."""
    return f"""SELECT quantile_disc({MOMENT}, {SHARES}) AS cuts FROM read_parquet($files)
        WHERE {MOMENT} IS NOT NULL AND {number} > $after"""


def split_query(
    number: str, marks: Sequence[ReadMark], cuts: Sequence[float] | None
) -> tuple[str, Mapping[str, float]]:
    """The query for all conversations with their splits in time order, and its parameters.

    `marks`: what earlier generations read, oldest first; `cuts`: the borders of what came since, or None if nothing of
    it has a time. A conversation without a time is for training.
    """
    cases: list[str] = []
    values: dict[str, float] = {}
    for place, mark in enumerate((*marks, ReadMark(None, 0, tuple(cuts) if cuts else None))):
        within = "TRUE"
        if mark.ingested is not None:
            within, values[f"read_{place}"] = f"{number} <= $read_{place}", mark.ingested
        if mark.cuts is None:
            cases.append(f"WHEN {within} THEN 'train'")
            continue
        for border, before, cut in zip(BORDERS, ("train", *BORDERS), mark.cuts, strict=False):
            values[f"{border}_{place}"] = cut
            cases.append(f"WHEN {within} AND moment < ${border}_{place} THEN '{before}'")
        cases.append(f"WHEN {within} THEN 'test'")
    query = f"""SELECT * EXCLUDE (moment) REPLACE (
            CASE WHEN moment IS NULL THEN 'train' {" ".join(cases)} END AS split)
        FROM (SELECT *, {MOMENT} AS moment FROM read_parquet($files))"""
    return query, values
