"""Formulas in the sentences of claims, which are written in plain ASCII, as a reader expects them: MathML without a library.

Only what is unmistakable is set: Greek names, indices of one symbol, small powers and signs of comparison.
"""

import re

from markupsafe import Markup, escape

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eta": "η", "kappa": "κ", "lambda": "λ", "mu": "μ", "rho": "ρ",
    "sigma": "σ", "xi": "ξ", "zeta": "ζ",
}  # fmt: skip
SIGNS = {"<=": "≤", ">=": "≥", "+-": "±"}
_NAMES = "|".join(GREEK)
# A Greek name or one letter with an index, or a Greek name alone; not inside a word, a path or an option.
_TOKEN = re.compile(
    rf"(?<![\w.\-/])(?P<base>{_NAMES}|[A-Za-z](?=_))(?:_(?P<index>[A-Za-z0-9]{{1,3}}))?(?P<star>\*)?(?:\^(?P<power>\d))?(?![\w])"
    r"|(?<=[\w|)])\^(?P<raised>\d)(?!\d)|(?P<sign><=|>=|\+-)"
)


def typeset(text: object) -> Markup:
    """A sentence with its symbols set in MathML; the rest is escaped.

    Example:
        >>> str(typeset("lambda_K <= 2 / eta"))
        '<math><msub><mi>λ</mi><mi>K</mi></msub></math> ≤ 2 / <math><mi>η</mi></math>'
        >>> str(typeset("a <b> |w|^2"))
        'a &lt;b&gt; |w|<sup>2</sup>'
    """
    source, parts, done = "unknown" if text is None else str(text), [], 0
    for found in _TOKEN.finditer(source):
        parts += [escape(source[done : found.start()]), _set(found)]
        done = found.end()
    return Markup("").join([*parts, escape(source[done:])])


def _set(found: re.Match[str]) -> Markup:
    if found["sign"]:
        return Markup(SIGNS[found["sign"]])
    if found["raised"]:
        return Markup("<sup>{}</sup>").format(found["raised"])
    symbol = Markup("<mi>{}</mi>").format(GREEK.get(found["base"], found["base"]))
    index, power = found["index"], found["power"] or found["star"]
    if index:
        tag = "mn" if index.isdigit() else "mi"
        symbol = Markup("<msub>{}<{}>{}</{}></msub>").format(symbol, Markup(tag), index, Markup(tag))
    if power:
        symbol = Markup("<msup>{}<mn>{}</mn></msup>").format(symbol, power)
    return Markup("<math>{}</math>").format(symbol)
