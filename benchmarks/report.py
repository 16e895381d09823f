"""What every benchmark gives: a table, CSV, a plot, and with --json the same figures for programs."""

import argparse
import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

OUT = Path(__file__).parent / "out"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a result. `goal` is a bound: at most for costs, at least for shares; None has no goal."""

    name: str
    value: float
    unit: str
    goal: float | None
    ok: bool


def at_most(name: str, value: float, unit: str, goal: float | None = None) -> Figure:
    """A figure that meets its goal when it is not above it."""
    return Figure(name, round(value, 3), unit, goal, goal is None or value <= goal)


def at_least(name: str, value: float, unit: str, goal: float) -> Figure:
    """A figure that meets its goal when it is not below it."""
    return Figure(name, round(value, 3), unit, goal, value >= goal)


def parser(description: str, rounds: int) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=rounds, help="interleaved repetitions; more is steadier")
    made.add_argument("--json", type=Path, help="write the figures to this file")
    return made


def publish(name: str, figures: list[Figure], json_path: Path | None) -> None:
    """Print the table; write benchmarks/out/NAME.csv and NAME.png, and JSON where asked for."""
    for one in figures:
        goal = "" if one.goal is None else f"goal {one.goal:g} {'ok' if one.ok else 'MISSED'}"
        print(f"{one.name:52} {one.value:10.3f} {one.unit:9} {goal}".rstrip())
    rows = [asdict(one) for one in figures]
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=1) + "\n")
    OUT.mkdir(exist_ok=True)
    with (OUT / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    _plot(name, figures)


def _plot(name: str, figures: list[Figure]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ratios = [one for one in figures if one.unit == "ratio"] or figures
    figure, axes = pyplot.subplots(figsize=(9, 0.6 + 0.42 * len(ratios)))
    axes.barh([one.name for one in ratios], [one.value for one in ratios], color="#3b6ea5", height=0.6)
    for row, one in enumerate(ratios):
        if one.goal is not None:
            axes.plot([one.goal, one.goal], [row - 0.4, row + 0.4], color="#c0392b", linewidth=2)
    axes.invert_yaxis()
    axes.set_xlabel(f"{ratios[0].unit}; the red line is the goal")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(OUT / f"{name}.png", dpi=120)
    pyplot.close(figure)
