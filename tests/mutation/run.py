"""Do the tests notice a fault? A random sample of small faults, each against its room's tests.

    python tests/mutation/run.py                       # 300 faults with seed 0
    python tests/mutation/run.py --room boxes --number 50 --seed 1
    python tests/mutation/run.py --again               # survivors only, after better tests
    python tests/mutation/run.py --show                # the report of what was run before

Results are kept in OUT after each fault: the same command goes on where it was stopped. A result
holds as long as the mutated file is the same. Exit codes: 0 done, 2 a wrong option, 3 the tests
fail without any fault.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from processes import Slot, Verdict, load_heavy_libraries, wait_for_any
from rooms import ROOMS, Case, all_cases

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    options = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through all that tidies up
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    sys.path[:] = [one for one in sys.path if Path(one).resolve() != ROOT]
    rooms = options.room or list(ROOMS)
    cases = list(all_cases(ROOT, rooms))
    chosen = random.Random(options.seed).sample(cases, min(options.number, len(cases)))
    kept = Kept(options.out)
    todo = [case for case in chosen if kept.verdict(case) in open_ones(options)]
    print(f"{len(cases)} faults, {len(chosen)} drawn with seed {options.seed}, {len(todo)} to run")
    code = 0 if options.show or not todo else run(todo, kept, options.jobs)
    report(chosen, kept)
    return code


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--room", action="append", choices=list(ROOMS), help="may repeat [all]")
    parser.add_argument("--number", type=int, default=300, help="how many faults [300]")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another sample [0]")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time [2]")
    parser.add_argument("--threads", type=int, default=1, help="of each; 0: as many as wanted [1]")
    parser.add_argument("--again", action="store_true", help="run the survivors once more")
    parser.add_argument("--show", action="store_true", help="run nothing, report what is known")
    parser.add_argument("--out", type=Path, default=Path("out/mutation.json"), help="[%(default)s]")
    return parser.parse_args()


def open_ones(options: argparse.Namespace) -> tuple[str, ...]:
    """The outcomes of what is to be run."""
    return ("", "survived", "timed out") if options.again else ("",)


class Kept:
    """Verdicts in a JSON file, by the name of the fault and the hash of the file without it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            self.rows = json.loads(path.read_text(encoding="utf-8"))

    def verdict(self, case: Case) -> str:
        """The outcome, or "" where it is not known."""
        row = self.rows.get(case.name, {})
        return row["outcome"] if row.get("source") == case.source else ""

    def put(self, case: Case, verdict: Verdict) -> None:
        row = asdict(verdict) | {"room": case.room, "source": case.source}
        self.rows[case.name] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.rows, indent=1) + "\n", encoding="utf-8")
        new.replace(self.path)


def run(todo: list[Case], kept: Kept, jobs: int) -> int:
    """Every case, `jobs` at a time."""
    load_heavy_libraries()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        slots = [Slot(ROOT, Path(folder) / str(number)) for number in range(jobs)]
        try:
            limits = _limits(slots[0], sorted({case.room for case in todo}))
            if limits is None:
                return 3
            _run(todo, kept, slots, limits)
        finally:
            for slot in slots:
                if slot.process:
                    slot.stop()
    return 0


def _limits(slot: Slot, rooms: list[str]) -> dict[str, int] | None:
    """Seconds that each room's tests may take: five times what they do; None where they fail."""
    limits: dict[str, int] = {}
    for room in rooms:
        slot.start(ROOMS[room].tests_for(slot.copy, ""), None, 600)
        ((_, verdict),) = wait_for_any([slot])
        print(f"{room}: without a fault {verdict.outcome} in {verdict.seconds:.1f} s", flush=True)
        if verdict.outcome != "survived":
            print(slot.log.read_text(encoding="utf-8", errors="replace")[-4000:])
            return None
        limits[room] = 10 + round(5 * verdict.seconds)
    return limits


def _run(todo: list[Case], kept: Kept, slots: list[Slot], limits: dict[str, int]) -> None:
    waiting, done = list(reversed(todo)), 0
    while waiting or any(slot.process for slot in slots):
        for slot in slots:
            if waiting and not slot.process:
                case = waiting.pop()
                tests = ROOMS[case.room].tests_for(slot.copy, case.file)
                slot.start(tests, case, limits[case.room])
        for slot, verdict in wait_for_any(slots):
            assert slot.case is not None
            kept.put(slot.case, verdict)
            done += 1
            print(f"{done}/{len(todo)} {verdict.outcome:9} {slot.case.name}", flush=True)


def report(chosen: list[Case], kept: Kept) -> None:
    """Survivors as differences, then one line a room."""
    by_room: dict[str, Counter[str]] = {}
    for case in chosen:
        outcome = kept.verdict(case) or "not run"
        by_room.setdefault(case.room, Counter())[outcome] += 1
        if outcome in ("survived", "timed out"):
            print(f"\n{outcome}: {case.name}\n{difference(case)}")
    print()
    total: Counter[str] = Counter()
    for room, counts in by_room.items():
        total += counts
        print(line(room, counts))
    print(line("all", total))


def line(room: str, counts: Counter[str]) -> str:
    run_at_all = sum(counts.values()) - counts["not run"]
    noticed = counts["killed"] + counts["timed out"]
    share = f"{100 * noticed / run_at_all:.1f} %" if run_at_all else "-"
    each = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    return f"{room:10} {share:>7} noticed of {run_at_all}: {each}"


def difference(case: Case) -> str:
    source = (ROOT / case.file).read_bytes()
    before, after = (text.decode().splitlines() for text in (source, case.mutant.applied(source)))
    return "\n".join(list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:])


if __name__ == "__main__":
    sys.exit(main())
