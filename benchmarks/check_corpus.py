"""`softplace check` on real code: what it finds of the faults that are there, and what it says of code that is right.

The corpus is two manifests, `check_corpus_dev.json` (looked at while the checker is written) and
`check_corpus_unseen.json` (not looked at: who labelled it did not know the checker). What has been measured is seen,
and goes over to the first. An entry names the repository and its commit, the faults in it (rule, file, line, and the
other lines that belong to each), and uses of softmax that are right, with their place. No code of others is kept here.
`--sources DIR --obtain` brings the files from where they are published, laid out as

    DIR/dev/OWNER+NAME/...   DIR/unseen/OWNER+NAME/...   DIR/large/NAME/...

and `--sources DIR` measures: recall per rule, right uses that are flagged, places that agree, findings that are neither
(to be judged by a person, `--list`), and files per second. `--large` adds well-kept code bases of other people: what is
reported at warning level or above per 50,000 lines, and seconds, cold and warm. Cells of notebooks count from 1, and
lines from the start of their cell. Exit code 1 where an aim is missed.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PARTS = ("dev", "unseen")
CHECK = (sys.executable, "-c", "import sys; from softplace.cli import main; sys.exit(main())", "check")
EXACT = "SP301"
"""The rule whose labels come from the syntax alone; right uses may lack a dim, so it flags none of them."""
RECALL, RECALL_SP101, FLAGGED, PER_LINES = 0.85, 0.9, 1 / 30, 1.0
"""The aims; the last is findings at warning level or above per 50,000 lines of well-kept code."""
WARNING = ("warning", "error")
SUFFIXES = (".py", ".ipynb")
MAGIC = re.compile(r"\s*[%!]")


class Spot(NamedTuple):
    """A line of a file or of a notebook's cell; `first` and `last` are the lines of its statement."""

    path: str
    cell: int | None
    first: int
    last: int

    def meets(self, other: "Spot") -> bool:
        """The two statements share a line."""
        same = (self.path, self.cell) == (other.path, other.cell)
        return same and self.first <= other.last and other.first <= self.last


@dataclass(kw_only=True)
class Tally:
    """What was counted over some repositories."""

    found: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    across_found: Counter[str] = field(default_factory=Counter)
    across: Counter[str] = field(default_factory=Counter)
    correct: int = 0
    flagged: int = 0
    noted: int = 0
    places: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    repositories: int = 0
    files: int = 0
    seconds: float = 0.0
    remarks: list[str] = field(default_factory=list)


def manifest(part: str) -> dict[str, Any]:
    """The manifest of a part."""
    return json.loads((HERE / f"check_corpus_{part}.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def sources(folder: Path) -> list[Path]:
    """Python files and notebooks of a folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())


@cache
def statements(folder: Path, path: str, cell: int | None) -> list[tuple[int, int]]:
    """First and last line of every simple statement, and of every head of a compound one; none where it won't parse."""
    try:
        text = (folder / path).read_text(encoding="utf-8", errors="replace")
        if cell is not None:
            notebook = json.loads(text)
            cells = notebook["cells"] if "cells" in notebook else notebook["worksheets"][0]["cells"]
            text = "".join(cells[cell - 1].get("source", cells[cell - 1].get("input", "")))
            text = "\n".join("pass" if MAGIC.match(line) else line for line in text.split("\n"))
        tree = ast.parse(text)
    except (OSError, ValueError, KeyError, IndexError, SyntaxError, RecursionError):
        return []
    spans = []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            spans.append((node.lineno, max(node.lineno, last)))
    return spans


def spot(folder: Path, place: dict[str, Any]) -> Spot:
    """Where a label or a finding is, widened to its statement."""
    path, cell, line = os.path.normpath(str(place["path"])).replace(os.sep, "/"), place.get("cell"), int(place["line"])
    around = [span for span in statements(folder, path, cell) if span[0] <= line <= span[1]]
    first, last = min(around, key=lambda span: span[1] - span[0], default=(line, line))
    return Spot(path, cell, first, last)


def spots(folder: Path, place: dict[str, Any], *more: str) -> list[Spot]:
    """A label's or a finding's own spot, then those of its lists `more`."""
    return [spot(folder, one) for one in (place, *(other for name in more for other in place.get(name, ())))]


def meet(some: Iterable[Spot], others: Iterable[Spot]) -> bool:
    """Any of some meets any of the others."""
    others = list(others)
    return any(one.meets(other) for one in some for other in others)


def run(folder: Path, cached: Path, *options: str) -> tuple[dict[str, Any], float, str]:
    """What the checker says of a folder, its seconds, and what was wrong with the run."""
    command = [*CHECK, ".", "--format", "json", *options]
    # A project of its own would bring its own configuration; nothing of the user's cache is read or written.
    environment = os.environ | {"XDG_CACHE_HOME": str(cached), "PYTHONPATH": os.pathsep.join(sys.path)}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    try:
        return json.loads(done.stdout), seconds, "" if done.returncode in (0, 1) else f"exit code {done.returncode}"
    except ValueError:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        return {}, seconds, f"exit code {done.returncode}: {last[:200]}"


def where(place: dict[str, Any]) -> str:
    """As a person reads it."""
    cell = f"cell {place['cell']}:" if place.get("cell") else ""
    return f"{place['path']}:{cell}{place['line']}"


def judge(entry: dict[str, Any], folder: Path, answer: dict[str, Any], tally: Tally) -> None:
    """Compare the findings in a repository with its labels."""
    repository, findings = entry["repo"], answer.get("findings", [])
    reported = [(finding, spots(folder, finding, "related")) for finding in findings]
    explained: set[int] = set()
    shared = Counter((label["code"], spot(folder, label)) for label in entry["findings"])
    for label in entry["findings"]:
        code, at = label["code"], spots(folder, label, "related", "also")
        codes = {code, *label.get("accept", ())}
        # Where one loss is given several softmaxes, a finding has to show the one of this label.
        needed = spots(folder, label, "related")[1:] if shared[code, spot(folder, label)] > 1 else []
        matches = {
            index
            for index, (finding, spread) in enumerate(reported)
            if finding["code"] in codes and meet(spread, at) and (not needed or meet(spread, needed))
        }
        explained |= matches
        across = any(other["path"] != label["path"] for other in label.get("related", ()))
        tally.labels[code] += 1
        tally.found[code] += bool(matches)
        tally.across[code] += across
        tally.across_found[code] += across and bool(matches)
        if not matches:
            tally.remarks.append(f"missed  {code} {repository} {where(label)}  {label.get('note', '')}".rstrip())
    softmaxes = [(spot(folder, softmax), softmax) for softmax in answer.get("softmaxes", ())]
    for use in entry["correct"]:
        its = spot(folder, use)
        wrong = [
            (index, finding)
            for index, (finding, spread) in enumerate(reported)
            if index not in explained and finding["code"] != EXACT and meet(spread, [its])
        ]
        tally.correct += 1
        tally.flagged += any(finding["level"] in WARNING for _, finding in wrong)
        tally.noted += bool(wrong) and all(finding["level"] not in WARNING for _, finding in wrong)
        for index, finding in wrong:
            explained.add(index)
            what = f"{finding['code']} ({finding['level']}) {repository} {where(use)}"
            tally.remarks.append(f"flagged {what}  {use['place']}; {use.get('note', '')}".rstrip("; "))
        places = {str(softmax.get("place")) for here, softmax in softmaxes if here.meets(its)}
        agrees = bool(places & same_place(use["place"]))
        verdict = "agrees" if agrees else "unknown" if places <= {"unknown"} else "differs"
        tally.places[verdict if places else "not listed"] += 1
        if verdict == "differs":
            tally.remarks.append(f"place   {repository} {where(use)}  {use['place']}, not {'/'.join(sorted(places))}")
    for index, finding in enumerate(findings):
        if index not in explained:
            tally.others[f"{finding['code']} {finding['level']}"] += 1
            what = f"{finding['code']} ({finding['level']}) {repository} {where(finding)}"
            tally.remarks.append(f"other   {what}  {finding['message'][:120]}")


def same_place(place: str) -> set[str]:
    """Words for one place."""
    return {"latent", "gate", "latent/gate"} if place in ("latent", "gate") else {place}


def measure(part: str, folder: Path, only: str) -> Tally:
    """Run the checker on every repository of a part."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as cached:
        for entry in manifest(part)["entries"]:
            here = folder / part / entry["repo"].replace("/", "+")
            if only not in entry["repo"] or not here.is_dir():
                continue
            answer, seconds, trouble = run(here, Path(cached), "--select", "ALL")
            if trouble:
                tally.remarks.append(f"trouble {entry['repo']}  {trouble}")
            tally.repositories += 1
            tally.files += len(sources(here))
            tally.seconds += seconds
            judge(entry, here, answer, tally)
    return tally


def report(part: str, tally: Tally, listed: bool) -> bool:
    """Print a part's table; whether the aims are met."""
    print(f"\n{part}: {tally.repositories} repositories, {tally.files} files, {tally.seconds:.1f} s", end="")
    print(f", {tally.files / max(tally.seconds, 1e-9):.0f} files/s with a process for each repository")
    print(f"{'rule':8}{'faults':>8}{'found':>8}{'recall':>8}   across files")
    for code in sorted(tally.labels):
        many, found = tally.labels[code], tally.found[code]
        beyond = f"{tally.across_found[code]}/{tally.across[code]}" if tally.across[code] else ""
        print(f"{code:8}{many:8}{found:8}{found / many:8.2f}   {beyond}")
    graded = [code for code in tally.labels if code != EXACT]
    recall = sum(tally.found[code] for code in graded) / max(1, sum(tally.labels[code] for code in graded))
    mean = sum(tally.found[code] / tally.labels[code] for code in graded) / max(1, len(graded))
    first = tally.found["SP101"] / max(1, tally.labels["SP101"])
    share = tally.flagged / max(1, tally.correct)
    print(
        f"recall without {EXACT} {recall:.2f} (aim {RECALL}), mean over rules {mean:.2f}, SP101 {first:.2f} (aim 0.9)"
    )
    print(
        f"right uses flagged at warning or above {tally.flagged}/{tally.correct} = {share:.3f} (aim {FLAGGED:.3f})",
        end="",
    )
    print(f", with a note {tally.noted}")
    print("places", ", ".join(f"{verdict} {many}" for verdict, many in tally.places.most_common()))
    print("other findings", ", ".join(f"{code} {many}" for code, many in sorted(tally.others.items())) or "none")
    if listed:
        print(*sorted(tally.remarks), sep="\n")
    return recall >= RECALL and first >= RECALL_SP101 and share <= FLAGGED


def large(folder: Path, listed: bool) -> bool:
    """The well-kept code bases: findings per 50,000 lines, and seconds; whether the aim is met."""
    met = True
    for base in manifest("dev")["large"]:
        here = folder / "large" / base["name"]
        if not here.is_dir():
            print(f"{base['name']}: not in {folder / 'large'}")
            continue
        files = sources(here)
        lines = sum(file.read_bytes().count(b"\n") for file in files if file.suffix == ".py")
        with tempfile.TemporaryDirectory() as cached:
            answer, cold, trouble = run(here, Path(cached))
            _, warm, _ = run(here, Path(cached))
        serious = [finding for finding in answer.get("findings", ()) if finding["level"] in WARNING]
        rate = 50_000 * len(serious) / max(1, lines)
        # Whether a finding is false is for a person to say; the aim is on those that are.
        met &= not trouble and rate < PER_LINES
        print(f"\n{base['name']}: {len(files)} files, {lines} lines {trouble}")
        print(
            f"  findings at warning or above {len(serious)}, {rate:.2f} per 50,000 lines (aim below {PER_LINES:.0f}, ",
            end="",
        )
        print(f"true ones apart)  {dict(Counter(finding['code'] for finding in serious))}")
        print(f"  softplace check {cold:.2f} s cold ({len(files) / cold:.0f} files/s), {warm:.2f} s warm")
        if listed:
            print(
                *(f"  {finding['code']} {where(finding)}  {finding['message'][:120]}" for finding in serious), sep="\n"
            )
    return met


def obtain(folder: Path, origin: str) -> bool:
    """Bring what is not there yet; whether all of it came."""
    wanted = [
        (folder / part / entry["repo"].replace("/", "+"), entry, entry["files"] if entry["layout"] == "files" else None)
        for part in PARTS
        for entry in manifest(part)["entries"]
    ]
    wanted += [(folder / "large" / base["name"], base, None) for base in manifest("dev")["large"]]
    missing = [(target, entry, files) for target, entry, files in wanted if not target.is_dir()]
    failed = []
    for target, entry, files in missing:
        print(f"{entry['repo']} at {entry['commit'][:12]}", flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            here = ("git", "-C", work)
            steps = (
                (*here, "init", "--quiet"),
                (*here, "fetch", "--quiet", "--depth", "1", f"{origin}{entry['repo']}", entry["commit"]),
                (*here, "checkout", "--quiet", "FETCH_HEAD", "--", *(files or ("*.py", "*.ipynb"))),
            )
            for step in steps:
                done = subprocess.run(step, capture_output=True, text=True, check=False)
                # Where a repository has no notebook the pattern of notebooks matches nothing.
                if done.returncode and step is steps[-1] and not files:
                    done = subprocess.run([*step[:-1]], capture_output=True, text=True, check=False)
                if done.returncode:
                    failed.append(f"{entry['repo']}: {(done.stderr.strip().splitlines() or ['git failed'])[-1]}")
                    break
            else:
                shutil.rmtree(Path(work) / ".git")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(work, target)
    print(f"{len(missing) - len(failed)} brought, {len(wanted) - len(missing)} were there, {len(failed)} failed")
    if failed:
        print(*failed, sep="\n", file=sys.stderr)
    return not failed


def contents() -> None:
    """What the manifests hold."""
    for part in PARTS:
        entries = manifest(part)["entries"]
        codes = Counter(label["code"] for entry in entries for label in entry["findings"])
        faulty = sum(any(label["code"] != EXACT for label in entry["findings"]) for entry in entries)
        places: dict[str, int] = defaultdict(int)
        for entry in entries:
            for use in entry["correct"]:
                places[use["place"]] += 1
        print(f"{part}: {len(entries)} repositories, {faulty} with a fault other than {EXACT}")
        print("  faults", ", ".join(f"{code} {codes[code]}" for code in sorted(codes)))
        print(
            "  right uses", sum(places.values()), ", ".join(f"{place} {many}" for place, many in sorted(places.items()))
        )


def main() -> int:
    """1 where an aim is missed or a source cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, metavar="DIR", help="where the files of others are (or are to come)")
    parser.add_argument("--obtain", action="store_true", help="bring the files that are not there, by git")
    parser.add_argument(
        "--origin", default="https://github.com/", help="what stands before OWNER/NAME (default %(default)s)"
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="one part only")
    parser.add_argument("--only", default="", metavar="TEXT", help="repositories whose name holds this")
    parser.add_argument("--list", action="store_true", help="every fault missed, right use flagged, and other finding")
    parser.add_argument("--large", action="store_true", help="the large code bases too")
    parser.add_argument("--quick", action="store_true", help="the part dev only")
    arguments = parser.parse_args()
    contents()
    if arguments.sources is None:
        print("Their code is not part of softplace: `--sources DIR --obtain` brings it (git, some GB of traffic).")
        return 0
    arguments.sources.mkdir(parents=True, exist_ok=True)
    if arguments.obtain and not obtain(arguments.sources, arguments.origin):
        return 1
    met = True
    for part in arguments.part or PARTS[: 1 if arguments.quick else None]:
        if (arguments.sources / part).is_dir():
            met &= report(part, measure(part, arguments.sources, arguments.only), arguments.list)
        else:
            print(f"{part}: nothing in {arguments.sources / part}; `--obtain` brings it")
    if arguments.large:
        met &= large(arguments.sources, arguments.list)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
