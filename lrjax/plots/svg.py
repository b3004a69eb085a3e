"""A figure as an SVG that follows the reader's colour scheme, for a page that shows it as an image.

In an `<img>` the drawing runs no script and shares no names with the page; browsers hand it the colour scheme all the same.
"""

import colorsys
import io
import re

import matplotlib
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from lrjax.plots.drawing import settle_scales

DARK_CARD, DARK_INK = "#1d2024", "#e7e9eb"
LEAST_CONTRAST = 4.0  # of a line against the dark card; WCAG asks 3 of graphics
MOST_COLOURS = 24  # more are a colour map, whose order must stay
MOST_BYTES = 300_000
_COLOUR = re.compile(r"(fill|stroke): (#[0-9a-f]{6})")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def svg(fig: Figure, name: str, *, most: int = MOST_BYTES) -> bytes | None:
    """A figure as an SVG file with light and dark colours; None where it would be larger than a page bears.

    Args:
        fig: the drawing.
        name: salt of the ids in the file, so that the same figure gives the same bytes.
        most: bytes.

    Example:
        >>> fig = Figure(figsize=(2, 1))
        >>> _ = fig.subplots().plot([0, 1], color="#0072B2")
        >>> b"prefers-color-scheme: dark" in svg(fig, "line")
        True
    """
    buffer = io.StringIO()
    settle_scales(fig)
    # Glyphs as paths: a browser's own font would be wider or narrower than what the layout was made for.
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path", "path.simplify_threshold": 0.3}):
        fig.savefig(
            buffer, format="svg", bbox_inches="tight", facecolor="none", metadata={"Date": None, "Creator": None}
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' d="[^"]*"', lambda found: _NUMBER.sub(_shorter, found[0]), text)
    text = re.sub(r' [xy]="[^"]*"', lambda found: _NUMBER.sub(_shorter, found[0]), text)
    text = re.sub(r"\n\s*", "\n", text)
    text = _two_schemes(text)
    return text.encode() if len(text) <= most else None


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _two_schemes(text: str) -> str:
    colours = sorted({found[1] for found in _COLOUR.findall(text)} | {"#000000"})
    many = len(colours) > MOST_COLOURS
    light = {colour: f"--c{number}" for number, colour in enumerate(colours)}
    dark = {colour: in_the_dark(colour) for colour in colours if not (many and _is_coloured(colour))}
    text = _COLOUR.sub(lambda found: f"{found[1]}: var({light[found[2]]})", text)

    def listed(values: dict[str, str]) -> str:
        return "; ".join(f"{light[colour]}: {value}" for colour, value in values.items())

    # What has no fill of its own, such as black text, takes that of the root.
    style = (
        f"<style>svg {{ {listed({colour: colour for colour in colours})}; fill: var({light['#000000']}) }}\n"
        f"@media (prefers-color-scheme: dark) {{ svg {{ {listed(dark)} }} }}</style>"
    )
    end = text.index(">") + 1
    return text[:end] + style + text[end:]


def _is_coloured(colour: str) -> bool:
    rgb = to_rgb(colour)
    return max(rgb) - min(rgb) > 0.03


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2).

    Example:
        >>> round(contrast("#000000", "#ffffff"))
        21
    """
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def in_the_dark(colour: str) -> str:
    """A colour for a dark page: greys change places, colours are lightened until they can be seen.

    Example:
        >>> in_the_dark("#000000"), in_the_dark("#ffffff"), in_the_dark("#e69f00")
        ('#e7e9eb', '#1d2024', '#e69f00')
    """
    red, green, blue = to_rgb(colour)
    if not _is_coloured(colour):
        ink, card = to_rgb(DARK_INK), to_rgb(DARK_CARD)
        share = (red + green + blue) / 3
        mixed = [i + (c - i) * share for i, c in zip(ink, card, strict=True)]
        return to_hex((mixed[0], mixed[1], mixed[2]))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    while contrast(colour, DARK_CARD) < LEAST_CONTRAST and lightness < 1:
        lightness += 0.02
        colour = to_hex(colorsys.hls_to_rgb(hue, min(lightness, 1.0), saturation))
    return colour
