"""The colours: every status has one, told apart in both themes, by colour-blind eyes too."""

from __future__ import annotations

from itertools import combinations

import pytest

from blazing_nb import Status
from blazing_nb.core.palette import CSS, MARK, STATUS, badge, framed

Rgb = tuple[float, float, float]
# Viénot, Brettel and Mollon 1999, on linear light.
BLIND = {
    "everybody": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protan": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    "deutan": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
}


def linear(text: str) -> Rgb:
    parts = (int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return r, g, b


def lab(rgb: Rgb) -> Rgb:
    """CIELAB of linear light, D65."""
    r, g, b = (min(1.0, max(0.0, c)) for c in rgb)
    rows = ((0.4124, 0.3576, 0.1805, 0.9505), (0.2126, 0.7152, 0.0722, 1.0), (0.0193, 0.1192, 0.9505, 1.089))
    x, y, z = ((u * r + v * g + w * b) / white for u, v, w, white in rows)
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def seen(text: str, eyes: str) -> Rgb:
    rgb = linear(text)
    r, g, b = (sum(weight * c for weight, c in zip(row, rgb, strict=True)) for row in BLIND[eyes])
    return lab((r, g, b))


def distance(a: Rgb, b: Rgb) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5


def test_every_status_has_a_colour_and_a_mark_of_its_own() -> None:
    assert set(STATUS) == set(MARK) == set(Status)
    assert len(set(MARK.values())) == len(Status)


@pytest.mark.parametrize("eyes", BLIND)
@pytest.mark.parametrize("shade", [0, 1], ids=["light", "dark"])
def test_any_two_statuses_differ_for_all_eyes(shade: int, eyes: str) -> None:
    near = {
        (str(a), str(b)): distance(seen(STATUS[a][shade], eyes), seen(STATUS[b][shade], eyes))
        for a, b in combinations(STATUS, 2)
    }
    assert min(near.values()) > 10, min(near, key=lambda pair: near[pair])


@pytest.mark.parametrize(("shade", "ground"), [(0, "#ffffff"), (1, "#111111")], ids=["light", "dark"])
def test_every_colour_stands_out_from_its_ground(shade: int, ground: str) -> None:
    assert all(distance(lab(linear(pair[shade])), lab(linear(ground))) > 40 for pair in STATUS.values())


def test_a_badge_says_its_status_in_words() -> None:
    shown = badge("LOST")
    assert "LOST" in shown
    assert "var(--lost)" in shown
    assert "--lost:#1b1f24" in CSS
    assert "prefers-color-scheme:dark" in CSS
    assert framed("x", "bz-'\"").count('data-testid="bz-&#x27;&quot;"') == 1


def test_an_unknown_status_has_no_badge() -> None:
    with pytest.raises(ValueError, match="RUNNER"):
        badge("RUNNER")
