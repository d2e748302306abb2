"""What a new user meets first: the names of the package, and the formats that the README promises."""

import re
from pathlib import Path

import drift
from drift.logs.readers import READERS

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there_and_documented():
    assert len(drift.__all__) <= 12
    for name in drift.__all__:
        assert getattr(drift, name) is not None
    assert all(getattr(drift, name).__doc__ for name in drift.__all__ if name != "__version__")


def test_the_readme_counts_the_formats_and_their_page_has_each():
    counted = re.search(r"\*\*Formats:\*\* (\d+),", (ROOT / "README.md").read_text())
    assert counted is not None
    assert int(counted[1]) == len(READERS)
    page = (ROOT / "docs/formats.md").read_text()
    assert [name for name in READERS if f"`{name}`" not in page] == []
