"""Medians, targets, the table, the JSON file and the chart."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from xml.sax.saxutils import escape

from .model import MIB, Case, Sample, Target

ORDER = ["quayfs", "s3fs", "rclone"]
COLOURS = {"quayfs": "#1f6feb", "s3fs": "#d29922", "rclone": "#8957e5"}
LIMIT_COLOUR = "#8b949e"


@dataclass
class Row:
    """A line of the table: a case, or a further figure of one."""
    name: str
    title: str
    unit: str
    less: bool
    against: str
    targets: list[Target]
    values: dict[str, float]        # medians
    cpus: dict[str, float]
    errors: dict[str, str]

    def names(self) -> list[str]:
        known = [name for name in ORDER if name in self.values]
        return known + [name for name in self.values if name not in ORDER]


@dataclass
class Result:
    case: Case
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)  # who failed, and how

    def add(self, name: str, sample: Sample) -> None:
        self.samples.setdefault(name, []).append(sample)

    def good(self) -> dict[str, list[Sample]]:
        return {name: samples for name, samples in self.samples.items() if name not in self.errors}

    def rows(self) -> list[Row]:
        case = self.case
        told = {name: median(s.seconds if case.seconds else s.rate for s in samples)
                for name, samples in self.good().items()}
        cpus = {name: median(s.cpu for s in samples) for name, samples in self.good().items()}
        rows = [Row(case.name, case.title, case.unit, case.seconds, case.against, case.targets, told, cpus,
                    self.errors)]
        for fact in case.facts:
            values = {name: median(s.facts[fact.name] for s in samples)
                      for name, samples in self.good().items() if all(fact.name in s.facts for s in samples)}
            rows.append(Row(f"{case.name}.{fact.name}", fact.title, fact.unit, fact.less, case.against,
                            fact.targets, values, {}, self.errors))
        return rows


def all_rows(results: list[Result]) -> list[Row]:
    return [row for result in results for row in result.rows()]


def judge(row: Row, target: Target, rows: list[Row]) -> tuple[float, bool] | None:
    """quayfs's part of what the target names, or its plain figure, and whether it is enough."""
    ours = row.values.get("quayfs")
    if target.of == "":
        other = 1.0
    elif target.of == "best":
        found = [row.values[name] for name in ORDER if name != "quayfs" and name in row.values]
        other = (min(found) if row.less else max(found)) if found else None
    elif target.of.startswith("case:"):
        other = next((r.values.get("quayfs") for r in rows if r.name == target.of[5:]), None)
    else:
        other = row.values.get(target.of)
    if ours is None or not other:
        return None
    ratio = ours / other
    return ratio, ratio <= target.need if target.at_most else ratio >= target.need


def number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 10_000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def verdicts(row: Row, rows: list[Row]) -> str:
    told = []
    for target in row.targets:
        judged = judge(row, target, rows)
        if judged is None:
            told.append(f"(no figure for {target.text})")
            continue
        ratio, good = judged
        sign = "<=" if target.at_most else ">="
        shown = number(ratio) if target.of == "" else f"{ratio:.2f}"
        told.append(f"{shown}, want {sign} {target.text}: {'PASS' if good else 'FALLS SHORT'}")
    if not row.targets:
        ours, other = row.values.get("quayfs"), row.values.get(row.against)
        if ours and other:
            told.append(f"{ours / other:.2f} of {row.against}")
    if "quayfs" in row.errors:
        told.append("quayfs FAILED")
    return "; ".join(told)


def cell(row: Row, name: str) -> str:
    if name in row.errors:
        return "failed"
    if name not in row.values:
        return "-"
    cpu = f" ({row.cpus[name]:.2f} s)" if name in row.cpus else ""
    return number(row.values[name]) + cpu


def table(results: list[Result], peaks: dict[str, int]) -> str:
    rows = all_rows(results)
    lines = ["| work | " + " | ".join(ORDER) + " | limit | result |", "|---|---|---|---|---|---|"]
    for row in rows:
        shown = cell(row, row.against)
        limit = "-" if shown == "-" else f"{row.against} {shown}"
        lines.append(f"| {row.title}, {row.unit} | " + " | ".join(cell(row, name) for name in ORDER) +
                     f" | {limit} | {verdicts(row, rows)} |")
    if any(peaks.get(name) for name in ORDER):
        cells = [f"{peaks[name] / MIB:.0f}" if peaks.get(name) else "-" for name in ORDER]
        ours = peaks.get("quayfs", 0)
        judged = f"want <= 128: {'PASS' if ours <= 128 * MIB else 'FALLS SHORT'}" if ours else ""
        lines.append("| peak memory of the daemon, MiB | " + " | ".join(cells) + f" | - | {judged} |")
    if peaks.get("quayload"):
        lines.append(f"| peak memory of quayload, MiB | {peaks['quayload'] / MIB:.0f} | - | - | - | |")
    lines += ["", "In brackets: CPU seconds of the client. Figures are medians."]
    failed = [f"- {name}, {result.case.name}: {' '.join(text.split())[:600]}"
              for result in results for name, text in result.errors.items()]
    if failed:
        lines += ["", "Failed:", *failed]
    return "\n".join(lines)


def as_json(results: list[Result], peaks: dict[str, int], about: dict) -> dict:
    rows = all_rows(results)

    def told(row: Row) -> dict:
        judged = [(target, judge(row, target, rows)) for target in row.targets]
        return {
            "name": row.name, "title": row.title, "unit": row.unit, "less_is_better": row.less,
            "limit": row.against or None,
            "results": {name: {"median": row.values[name], "cpu_seconds": row.cpus.get(name)} for name in row.names()},
            "errors": row.errors,
            "targets": [{"text": t.text, "of": t.of, "need": t.need, "at_most": t.at_most,
                         "ratio": found[0] if found else None, "pass": found[1] if found else None}
                        for t, found in judged],
        }
    return {
        "about": about,
        "rows": [told(row) for row in rows],
        "samples": {r.case.name: {name: [{"amount": s.amount, "seconds": s.seconds, "cpu_seconds": s.cpu, **s.facts}
                                         for s in samples] for name, samples in r.samples.items()} for r in results},
        "peak_memory_bytes": peaks,
    }


def svg(results: list[Result], about: list[str]) -> str:
    """Horizontal bars, a group for each row, each group scaled to its own largest figure."""
    label, bar, height, gap, width = 190, 430, 17, 26, 760
    parts: list[str] = []
    y = 34 + 18 * len(about)
    for row in all_rows(results):
        names = [name for name in row.names() if row.values[name]]
        if not names:
            continue
        largest = max(row.values[name] for name in names)
        less = " (less is better)" if row.less else ""
        parts.append(f'<text x="10" y="{y}" class="t">{escape(row.title)}, {escape(row.unit)}{less}</text>')
        y += 7
        for name in names:
            value = row.values[name]
            length = max(1.0, bar * value / largest)
            colour = COLOURS.get(name, LIMIT_COLOUR)
            parts.append(f'<text x="{label - 8}" y="{y + 12}" class="n">{escape(name)}</text>'
                         f'<rect x="{label}" y="{y + 2}" width="{length:.1f}" height="{height - 4}" fill="{colour}"/>'
                         f'<text x="{label + length + 6:.1f}" y="{y + 12}" class="v">{number(value)}</text>')
            y += height
        y += gap
    head = "".join(f'<text x="10" y="{22 + 18 * i}" class="h">{escape(line)}</text>'
                   for i, line in enumerate(about))
    style = ("text{font:12px sans-serif;fill:#24292f}.t{font-weight:bold}.n{text-anchor:end}"
             ".v{fill:#57606a}.h{font-size:13px}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}">'
            f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>'
            f'{head}{"".join(parts)}</svg>\n')
