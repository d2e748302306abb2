"""What every checker says about replies whose verdict was written down by hand (`golden/*.yaml`)."""

from pathlib import Path

import pytest
import yaml

from drift.sandbox.instructions.constraints import KINDS, Constraint

TABLES = sorted((Path(__file__).parent / "golden").glob("*.yaml"))
ROWS = {kind: rows for table in TABLES for kind, rows in yaml.safe_load(table.read_text(encoding="utf-8")).items()}
LEAST_PER_KIND, LEAST_IN_ALL = 20, 600


def verdict(kind, values, reply):
    if KINDS[kind].relative:
        return Constraint(kind).holds(reply, *values)
    return Constraint(kind, tuple(values)).holds(reply)


@pytest.mark.parametrize("kind", ROWS)
def test_checkers_agree_with_the_verdicts_by_hand(kind):
    wrong = [row for row in ROWS[kind] if verdict(kind, row[0], row[2]) != row[1]]
    assert wrong == []


def test_every_kind_has_enough_rows_of_both_verdicts():
    assert set(ROWS) == set(KINDS)
    assert all(len(rows) >= LEAST_PER_KIND for rows in ROWS.values())
    assert sum(map(len, ROWS.values())) >= LEAST_IN_ALL
    for kind, rows in ROWS.items():
        verdicts = [row[1] for row in rows]
        assert min(verdicts.count(True), verdicts.count(False)) >= 5, kind


def test_every_row_is_complete_and_stands_once():
    for kind, rows in ROWS.items():
        assert all(len(row) == 4 and row[1] in (True, False) and row[3] for row in rows), kind
        assert len({(tuple(row[0]), row[2]) for row in rows}) == len(rows), kind
