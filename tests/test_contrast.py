"""Text, buttons and what must be told apart reach WCAG 2.2 AA, in light and dark: computed from the style sheets."""

import re
from importlib.resources import files
from itertools import product

import pytest

SHEETS = {room: (files(f"drift.{room}") / "templates/style.css").read_text("utf-8") for room in ("report", "review")}
TEXT, PARTS = 4.5, 3.0
"""Least contrast of text (WCAG 1.4.3), and of borders, charts and the focus ring (1.4.11)."""
PAIRS = {
    "report": [
        *product(("ink", "muted", "accent", "bad", "good"), ("paper", "card"), (TEXT,)),
        ("mark-ink", "mark", TEXT),
        *product(("series-1", "series-2", "series-3", "series-4"), ("paper", "card"), (PARTS,)),
    ],
    "review": [
        *product(("ink", "muted", "accent"), ("paper", "card", "judged", "reaction"), (TEXT,)),
        ("accent-ink", "accent", TEXT),
        ("mark-ink", "mark", TEXT),
        *product(("line", "accent"), ("paper", "card"), (PARTS,)),
        ("judged-line", "judged", PARTS),
        ("reaction-line", "reaction", PARTS),
    ],
}


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, 0 to 1 (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def themes(sheet: str) -> tuple[dict[str, str], dict[str, str]]:
    """The colours of the light and of the dark theme, by name."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part))
        for part in re.findall(r":root \{[^}]*--paper: #\w{6};[^}]*\}", sheet)
    )
    return light, dark


def test_the_formula_gives_the_known_values():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)
    assert contrast("#5898d4", "#ffffff") == pytest.approx(3.06, abs=0.01)  # the buttons as they were: too faint


@pytest.mark.parametrize("room", SHEETS)
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_that_meet_differ_enough(room, theme):
    colours = themes(SHEETS[room])[theme]
    found = {(fore, back): contrast(colours[fore], colours[back]) for fore, back, _ in PAIRS[room]}
    assert [(fore, back, found[fore, back]) for fore, back, least in PAIRS[room] if found[fore, back] < least] == []


@pytest.mark.parametrize("room", SHEETS)
def test_no_colour_comes_from_elsewhere(room):
    sheet = re.sub(r"@media print \{.*\n\}", "", SHEETS[room], flags=re.DOTALL)
    light, dark = themes(sheet)
    assert set(light) == set(dark)
    assert set(re.findall(r"var\(--([\w-]+)\)", sheet)) <= set(light)
    rules = re.sub(r":root \{[^}]*\}", "", sheet)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsla?\(|opacity", rules) == []
    texts = set(re.findall(r"(?<![\w-])color: var\(--([\w-]+)\)", rules))
    assert texts <= {fore for fore, _, least in PAIRS[room] if least == TEXT}
    backs = set(re.findall(r"background: var\(--([\w-]+)\)", rules))
    assert backs <= {back for _, back, _ in PAIRS[room]} | {"series-1"}  # a bar in a table, which holds no text
