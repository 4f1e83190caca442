"""Medians, targets, the table, the JSON file and the chart."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from xml.sax.saxutils import escape

from .cases import Case, Sample, Target

ORDER = ["quayfs", "s3fs", "rclone"]
COLOURS = {"quayfs": "#1f6feb", "s3fs": "#d29922", "rclone": "#8957e5"}
LIMIT_COLOUR = "#8b949e"


@dataclass
class Result:
    case: Case
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, name: str, sample: Sample) -> None:
        self.samples.setdefault(name, []).append(sample)

    def value(self, name: str) -> float | None:
        """The median: a rate, or seconds where the case is told in seconds."""
        found = self.samples.get(name)
        if not found:
            return None
        return median(s.seconds if self.case.seconds else s.rate for s in found)

    def cpu(self, name: str) -> float | None:
        found = self.samples.get(name)
        return median(s.cpu for s in found) if found else None

    def names(self) -> list[str]:
        known = [name for name in ORDER if name in self.samples]
        return known + [name for name in self.samples if name not in ORDER]

    def judge(self, target: Target) -> tuple[float, bool] | None:
        """quayfs's part of what the target names, and whether it is enough."""
        ours = self.value("quayfs")
        if target.of == "best":
            peers = [self.value(name) for name in ("s3fs", "rclone")]
            found = [value for value in peers if value is not None]
            other = (min(found) if self.case.seconds else max(found)) if found else None
        else:
            other = self.value(target.of)
        if not ours or not other:
            return None
        ratio = ours / other
        return ratio, ratio <= target.need if target.at_most else ratio >= target.need


def number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 10_000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def verdicts(result: Result) -> str:
    told = []
    for target in result.case.targets:
        judged = result.judge(target)
        if judged is None:
            told.append(f"(no figure for {target.text})")
            continue
        ratio, good = judged
        sign = "<=" if target.at_most else ">="
        told.append(f"{ratio:.2f}, want {sign} {target.text}: {'PASS' if good else 'FALLS SHORT'}")
    if not result.case.targets:
        ours, other = result.value("quayfs"), result.value(result.case.against)
        if ours and other:
            told.append(f"{ours / other:.2f} of {result.case.against}")
    return "; ".join(told)


def table(results: list[Result], peaks: dict[str, int]) -> str:
    lines = ["| work | " + " | ".join(ORDER) + " | limit | result |", "|---|---|---|---|---|---|"]
    for result in results:
        case = result.case
        cells = []
        for name in ORDER:
            value, cpu = result.value(name), result.cpu(name)
            cells.append("-" if value is None else f"{number(value)} ({cpu:.2f} s)")
        value, cpu = result.value(case.against), result.cpu(case.against)
        limit = "-" if value is None else f"{case.against} {number(value)} ({cpu:.2f} s)"
        lines.append(f"| {case.title}, {case.unit} | " + " | ".join(cells) + f" | {limit} | {verdicts(result)} |")
    if peaks:
        cells = [f"{peaks[name] / 1048576:.0f}" if peaks.get(name) else "-" for name in ORDER]
        ours = peaks.get("quayfs", 0)
        judged = f"want <= 128: {'PASS' if ours <= 128 << 20 else 'FALLS SHORT'}" if ours else ""
        lines.append("| peak memory of the daemon, MiB | " + " | ".join(cells) + f" | - | {judged} |")
    if peaks.get("quayload"):
        lines.append(f"| peak memory of quayload, MiB | {peaks['quayload'] / 1048576:.0f} | - | - | - | |")
    lines.append("")
    lines.append("In brackets: CPU seconds of the client. Figures are medians.")
    return "\n".join(lines)


def as_json(results: list[Result], peaks: dict[str, int], about: dict) -> dict:
    return {
        "about": about,
        "cases": [{
            "name": r.case.name, "title": r.case.title, "unit": r.case.unit,
            "results": {name: {
                "median": r.value(name), "cpu_seconds": r.cpu(name),
                "rounds": [{"amount": s.amount, "seconds": s.seconds, "cpu_seconds": s.cpu}
                           for s in r.samples[name]]} for name in r.names()},
            "targets": [{"text": t.text, "need": t.need, "ratio": (r.judge(t) or (None, None))[0],
                         "pass": (r.judge(t) or (None, None))[1]} for t in r.case.targets],
        } for r in results],
        "peak_memory_bytes": peaks,
    }


def svg(results: list[Result], about: list[str]) -> str:
    """Horizontal bars, a group for each case, each group scaled to its own largest figure."""
    label, bar, row, gap, width = 190, 430, 17, 26, 760
    parts: list[str] = []
    y = 34 + 18 * len(about)
    for result in results:
        names = [name for name in result.names() if result.value(name)]
        if not names:
            continue
        largest = max(result.value(name) or 0 for name in names)
        less = " (less is better)" if result.case.seconds else ""
        parts.append(f'<text x="10" y="{y}" class="t">{escape(result.case.title)}, '
                     f'{escape(result.case.unit)}{less}</text>')
        y += 7
        for name in names:
            value = result.value(name) or 0.0
            length = max(1.0, bar * value / largest)
            colour = COLOURS.get(name, LIMIT_COLOUR)
            parts.append(f'<text x="{label - 8}" y="{y + 12}" class="n">{escape(name)}</text>'
                         f'<rect x="{label}" y="{y + 2}" width="{length:.1f}" height="{row - 4}" fill="{colour}"/>'
                         f'<text x="{label + length + 6:.1f}" y="{y + 12}" class="v">{number(value)}</text>')
            y += row
        y += gap
    head = "".join(f'<text x="10" y="{22 + 18 * i}" class="h">{escape(line)}</text>'
                   for i, line in enumerate(about))
    style = ("text{font:12px sans-serif;fill:#24292f}.t{font-weight:bold}.n{text-anchor:end}"
             ".v{fill:#57606a}.h{font-size:13px}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}">'
            f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>'
            f'{head}{"".join(parts)}</svg>\n')
