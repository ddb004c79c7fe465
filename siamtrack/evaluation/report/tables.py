"""Tables for papers and terminals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from siamtrack.evaluation.protocols import FIGURES, heading

Content = Mapping[str, Any]


def _cells(variant: Content) -> tuple[list[str], list[list[str]], list[set[int]]]:
    """Headings, rows of text, and per row the columns in which it is best."""
    figures = list(variant["protocol"]["headline"])
    trackers = variant["trackers"]
    ranked = sorted(trackers, key=lambda label: -_value(trackers[label], figures[0]))
    best = {name: _best(trackers, name) for name in [*figures, "fps"]}
    rows, marks = [], []
    for label in ranked:
        tracker = trackers[label]
        total = tracker["scored"] + len(tracker["missing"])
        row = [label, *(_text(tracker, name) for name in figures)]
        row += ["-" if tracker["fps"] is None else f"{tracker['fps']:.1f}"]
        row += [f"{tracker['scored']}/{total}"]
        rows.append(row)
        columns = [*figures, "fps"]
        marks.append(
            {i + 1 for i, name in enumerate(columns) if _value(tracker, name) == best[name]}
        )
    return ["tracker", *map(heading, figures), "fps", "sequences"], rows, marks


def _value(tracker: Content, figure: str) -> float:
    value = tracker["fps"] if figure == "fps" else tracker["figures"].get(figure, {}).get("value")
    worst = float("-inf") if FIGURES[figure][1] else float("inf")
    return worst if value is None else float(value)


def _best(trackers: Content, figure: str) -> float:
    pick = max if FIGURES[figure][1] else min
    return pick(_value(tracker, figure) for tracker in trackers.values())


def _text(tracker: Content, figure: str) -> str:
    interval = tracker["figures"].get(figure)
    if interval is None or interval["value"] is None:
        return "-"
    text = f"{interval['value']:.3f}"
    if interval["low"] is not None and interval["high"] is not None:
        text += f" [{interval['low']:.3f}, {interval['high']:.3f}]"
    return text


def markdown_table(variant: Content) -> str:
    """GitHub-flavoured Markdown, best first, the best of each column bold."""
    headings, rows, marks = _cells(variant)
    lines = [_pipe(headings), _pipe(["---", *["---:"] * (len(headings) - 1)])]
    for row, bold in zip(rows, marks, strict=True):
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append(_pipe([f"**{c}**" if i in bold else c for i, c in enumerate(cells)]))
    return "\n".join(lines) + "\n"


def _pipe(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


LATEX_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)


def latex_table(variant: Content) -> str:
    """A `tabular` for the booktabs package, best first, the best of each column bold."""
    headings, rows, marks = _cells(variant)
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}", r"\toprule"]
    lines.append(" & ".join(cell.translate(LATEX_SPECIAL) for cell in headings) + r" \\")
    lines.append(r"\midrule")
    for row, bold in zip(rows, marks, strict=True):
        cells = [cell.translate(LATEX_SPECIAL) for cell in row]
        marked = [rf"\textbf{{{c}}}" if i in bold else c for i, c in enumerate(cells)]
        lines.append(" & ".join(marked) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


FORMATS = {"md": markdown_table, "latex": latex_table}
