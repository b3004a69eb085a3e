"""Formulas in the sentences of claims, which are written in plain ASCII, as a reader expects them: MathML without a library.

Only what is unmistakable is set: Greek names, indices of one symbol, small powers and signs of comparison; the little TeX of
captions between dollars; and words between backticks, as code.
"""

import re
from collections.abc import Callable

from markupsafe import Markup, escape

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eta": "η", "kappa": "κ", "lambda": "λ", "mu": "μ", "rho": "ρ",
    "sigma": "σ", "tau": "τ", "theta": "θ", "xi": "ξ", "zeta": "ζ",
}  # fmt: skip
SIGNS = {"<=": "≤", ">=": "≥", "+-": "±"}
_NAMES = "|".join(GREEK)
# A Greek name or one letter with an index, or a Greek name alone; not inside a word, a path or an option.
_TOKEN = re.compile(
    rf"(?<![\w.\-/])(?P<base>{_NAMES}|[A-Za-z](?=_))(?P<optimal>\*(?=_))?(?:_(?P<index>[A-Za-z0-9]{{1,3}}))?(?P<star>\*)?"
    r"(?:\^(?P<power>\d))?(?![\w])|(?<=[\w|)])\^(?P<raised>\d)(?!\d)|(?P<sign><=|>=|\+-)"
)
_QUOTED = re.compile(r"\$(?P<tex>[\w\\^{}()|+\-*/=.,][\w\\^{}()|+\-*/=., ]*(?<! ))\$|`(?P<code>[^`\n]+)`")
_TEX = re.compile(r"\\(?P<name>[A-Za-z]+)|(?P<number>\d+(?:\.\d+)?)|(?P<letter>[A-Za-z])|(?P<script>[_^])|(?P<other>.)")


def typeset(text: object) -> Markup:
    """A sentence with its symbols set in MathML; the rest is escaped.

    Example:
        >>> str(typeset("lambda_K <= 2 / eta"))
        '<math><msub><mi>λ</mi><mi>K</mi></msub></math> ≤ 2 / <math><mi>η</mi></math>'
        >>> str(typeset("a <b> |w|^2"))
        'a &lt;b&gt; |w|<sup>2</sup>'
        >>> str(typeset(r"`l2` is $2/\\eta$"))
        '<code>l2</code> is <math><mn>2</mn><mo>/</mo><mi>η</mi></math>'
    """
    source = "unknown" if text is None else str(text)
    return _between(_QUOTED, source, _quoted, lambda rest: _between(_TOKEN, rest, _set, escape))


def _between(
    pattern: re.Pattern[str], source: str, found: Callable[[re.Match[str]], Markup], rest: Callable[[str], Markup]
) -> Markup:
    parts, done = [], 0
    for match in pattern.finditer(source):
        parts += [rest(source[done : match.start()]), found(match)]
        done = match.end()
    return Markup("").join([*parts, rest(source[done:])])


def _quoted(found: re.Match[str]) -> Markup:
    if found["code"]:
        return Markup("<code>{}</code>").format(found["code"])
    names = [match["name"] for match in _TEX.finditer(found["tex"]) if match["name"]]
    if not set(names) <= GREEK.keys() or set("{}") & set(found["tex"]):
        return escape(found[0])  # more TeX than this knows: as it is written
    return Markup("<math>{}</math>").format(_tex(found["tex"]))


def _tex(source: str) -> Markup:
    """Symbols one after the other, each with the index and the power that follow it."""
    atoms: list[dict[str, Markup]] = []
    script = ""
    for match in _TEX.finditer(source.replace(" ", "")):
        if match["script"]:
            script = match["script"]
            continue
        tag = Markup("mn" if match["number"] else "mo" if match["other"] else "mi")
        symbol = Markup("<{0}>{1}</{0}>").format(tag, GREEK.get(match["name"], "") if match["name"] else match[0])
        if script and atoms:
            atoms[-1][script] = symbol
        else:
            atoms.append({"": symbol})
        script = ""
    kinds = {"_": Markup("msub"), "^": Markup("msup"), "_^": Markup("msubsup")}
    told = [(one, kinds.get("".join(key for key in ("_", "^") if key in one))) for one in atoms]
    return Markup("").join(
        Markup("<{0}>{1}</{0}>").format(kind, Markup("").join([one[""], *(one[k] for k in ("_", "^") if k in one)]))
        if kind
        else one[""]
        for one, kind in told
    )


def _set(found: re.Match[str]) -> Markup:
    if found["sign"]:
        return Markup(SIGNS[found["sign"]])
    if found["raised"]:
        return Markup("<sup>{}</sup>").format(found["raised"])
    symbol = Markup("<mi>{}</mi>").format(GREEK.get(found["base"], found["base"]))
    index, power = found["index"], found["power"] or found["star"] or found["optimal"]
    if index:
        tag = "mn" if index.isdigit() else "mi"
        symbol = Markup("<msub>{}<{}>{}</{}></msub>").format(symbol, Markup(tag), index, Markup(tag))
    if power:
        symbol = Markup("<msup>{}<mn>{}</mn></msup>").format(symbol, power)
    return Markup("<math>{}</math>").format(symbol)
