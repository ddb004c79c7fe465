"""Write docs/models.md from the cards of the bundled weights: python tools/models_page.py."""

from __future__ import annotations

from pathlib import Path

from siamtrack.models.weights import GRAPHS, find_weights, graph_path, list_weights, read_card

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
HEAD = """# Models

Every bundled set of weights, as its card (`weights/NAME.json`) has it: this page is written by
`python tools/models_page.py`, and a test compares it with the cards. Figures say the data they
were measured on: `dev` are 21 development sequences, `dev46` all 46, `dev46_new25` the 25 of these
that chose nothing before this version's loop. [Evaluation protocols](evaluation.md) says what they
mean, [speed](speed.md) what a frame costs.
"""


def page() -> str:
    """The page as the cards and files are now."""
    names = sorted(list_weights(), key=lambda name: not name.startswith("siamtrack"))
    return "\n".join([HEAD, *map(_section, names)])


def _section(name: str) -> str:
    card, file = read_card(name), find_weights(name)
    config = card.config
    facts = {
        "architecture": card.architecture,
        "exemplar, search": f"{config['exemplar_size_px']} px, {config['search_size_px']} px, "
        f"stride {config['total_stride']}",
        "license of the weights": card.license,
        "file": f"`{file.name}`, {file.stat().st_size / 1e6:.1f} MB",
        "sha256": f"`{card.sha256}`",
        **{
            f"sha256 of {graph}": f"`{card.graphs[graph]}`, "
            f"{graph_path(file, graph).stat().st_size / 1e6:.1f} MB"
            for graph in GRAPHS
            if graph in card.graphs
        },
        "trained": f"{card.created[:10]}, {card.pairs:,} pairs, commit {card.commit}",
        "training data": ", ".join(card.training_data),
        **{f"`{figure}`": f"{value:g}" for figure, value in card.figures.items()},
    }
    rows = [f"| {key} | {value} |" for key, value in facts.items()]
    notes = [card.notes.replace("|", "\\|"), ""] if card.notes else []
    return "\n".join([f"## {name}", "", "| | |", "|---|---|", *rows, "", *notes])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
