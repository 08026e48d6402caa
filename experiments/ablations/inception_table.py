"""The table of an ablation: mean and range over the seeds, steps from row to row, the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ablations.inception_rows import Row

if TYPE_CHECKING:
    from rich.table import Table

    from ablations.inception_runs import Result, Run
    from detector.datasets.labelled.images import LabelledImages

# Of one row, in per cent: "top1" and "top5", by seed.
Errors = Mapping[str, Mapping[int, float]]
KINDS = ("top1", "top5")


def tabulated(rows: Sequence[Row], found: Sequence[tuple[Run, Result]]) -> list[dict[str, Any]]:
    """All rows as JSON, errors in per cent; a step is the difference from the row above, by seed.

    What no seed has reached yet is None.
    """
    made: list[dict[str, Any]] = []
    before: Errors = {kind: {} for kind in KINDS}
    for number, row in enumerate(rows):
        own = [(run, result) for run, result in found if run.row.name == row.name]
        errors = _errors(own)
        one: dict[str, Any] = {
            "name": row.name,
            "change": dict(row.change),
            **{f"{kind}_error": spread(list(errors[kind].values())) for kind in KINDS},
        }
        if number:
            above = rows[number - 1].paper
            one |= {f"{kind}_step": _step(before[kind], errors[kind]) for kind in KINDS}
            one["paper_step"] = {k: _less(getattr(row.paper, k), getattr(above, k)) for k in KINDS}
        one["paper"] = row.paper.model_dump()
        one["runs"] = [_run(run, result) for run, result in own]
        one["settings"] = row.settings.model_dump(mode="json", exclude={"data"})
        made.append(one)
        before = errors
    return made


def summary(
    rows: Sequence[Row],
    found: Sequence[tuple[Run, Result]],
    seeds: Sequence[int],
    images: LabelledImages,
    judged: LabelledImages,
) -> dict[str, Any]:
    """The content of ablation.json."""
    return {
        "data": images.name,
        "learnt_from": len(images),
        "judged": judged.name,
        "images": len(judged),
        "seeds": list(seeds),
        "unit": "per cent",
        "rows": tabulated(rows, found),
    }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean, lowest and highest; None of no values."""
    if not values:
        return None
    return {"mean": sum(values) / len(values), "low": min(values), "high": max(values)}


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of `tabulated` for a terminal."""
    from rich.table import Table

    table = Table("row", box=None, header_style="bold")
    titles = ("top-1 error", "step", "top-5 error", "step", "paper: top-1", "top-5")
    for title in titles:
        table.add_column(title, justify="right")
    for row in rows:
        cells = []
        for kind in KINDS:
            cells += [_cell(row[f"{kind}_error"]), _cell(row.get(f"{kind}_step"), "+")]
        steps = row.get("paper_step", {})
        cells += [_of_paper(row["paper"][kind], steps.get(kind)) for kind in KINDS]
        table.add_row(row["name"], *cells)
    return table


def _errors(own: Sequence[tuple[Run, Result]]) -> Errors:
    return {
        kind: {run.seed: 100 * (1 - getattr(result, kind)) for run, result in own} for kind in KINDS
    }


def _step(before: Mapping[int, float], after: Mapping[int, float]) -> dict[str, float] | None:
    # Over the seeds that both rows have: the last may be on their way.
    return spread([after[seed] - before[seed] for seed in after if seed in before])


def _run(run: Run, result: Result) -> dict[str, Any]:
    reached = {f"{kind}_error": 100 * (1 - getattr(result, kind)) for kind in KINDS}
    return {"seed": run.seed, **reached, "images": result.images, "folder": run.folder.name}


def _less(one: float | None, other: float | None) -> float | None:
    # Rounded: 23.1 - 23.4 is not quite -0.3.
    return None if one is None or other is None else round(one - other, 6)


def _cell(value: Mapping[str, float] | None, sign: str = "") -> str:
    if value is None:
        return ""
    mean, low, high = (format(value[name], f"{sign}.2f") for name in ("mean", "low", "high"))
    return mean if low == high else f"{mean} ({low} to {high})"


def _of_paper(value: float | None, step: float | None) -> str:
    if value is None:
        return ""
    return f"{value}" if step is None else f"{value} ({step:+.1f})"
