"""Stacks of `perf script`, folded; a flame graph as one SVG file; the symbols that cost most themselves.

A stack is drawn from its root at the bottom; a frame is as wide as the part of all samples that has it there.
The title of a frame (shown when the mouse rests on it) has the whole name and its part."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from zlib import crc32
from xml.sax.saxutils import escape

WIDTH, MARGIN, ROW, CHARACTER = 1200, 10, 18, 6.7
LEAST = 0.4                      # pixels: narrower frames are left out

Stacks = Counter[tuple[str, ...]]


def fold(text: str) -> Stacks:
    """Stacks, root first, of the output of `perf script -F comm,ip,sym,dso`; the thread's name is the root."""
    stacks: Stacks = Counter()
    thread, frames = "", []

    def end() -> None:
        if thread and frames:
            stacks[(thread, *reversed(frames))] += 1
    for line in text.splitlines():
        if not line.strip():
            end()
            thread, frames = "", []
        elif not thread:
            thread = line.strip().rstrip(":").strip()
        elif not (name := frame_name(line.strip())).startswith("[") or frames[-1:] != [name]:
            frames.append(name)     # a row of unknown frames of one library is one
    end()
    return stacks


def frame_name(line: str) -> str:
    """`7f01 symbol+0x1 (/usr/lib/libcurl.so.4)` -> `symbol`; an unknown symbol gets its library's name."""
    found = re.fullmatch(r"[0-9a-f]+ (.*?)(?:\+0x[0-9a-f]+)? \((.*)\)", line)
    if not found:
        return line
    symbol, where = found[1], found[2].rsplit("/", 1)[-1]
    return f"[{where.strip('[]')}]" if symbol == "[unknown]" else symbol


def self_costs(stacks: Stacks) -> list[tuple[str, int]]:
    """Samples by the function that was running, most first."""
    costs: Counter[str] = Counter()
    for stack, count in stacks.items():
        costs[stack[-1]] += count
    return sorted(costs.items(), key=lambda item: (-item[1], item[0]))


def cost_table(stacks: Stacks, most: int = 15) -> str:
    total = sum(stacks.values())
    lines = ["   self  function"]
    lines += [f"{100 * count / total:6.1f}%  {name}" for name, count in self_costs(stacks)[:most]]
    return "\n".join(lines)


@dataclass
class Node:
    count: int = 0
    below: dict[str, "Node"] = field(default_factory=dict)

    def add(self, stack: tuple[str, ...], count: int) -> None:
        self.count += count
        if stack:
            self.below.setdefault(stack[0], Node()).add(stack[1:], count)

    def depth(self, least: float) -> int:
        return 1 + max((n.depth(least) for n in self.below.values() if n.count >= least), default=0)


def colour(name: str) -> str:
    """The same for a name in every picture: warm; grey for what has no name."""
    if name.startswith("["):
        return "#d0d0d0"
    dice = crc32(name.encode())
    return f"rgb({215 + dice % 40},{110 + (dice >> 8) % 100},{50 + (dice >> 16) % 40})"


def svg(stacks: Stacks, titles: list[str]) -> str:
    root = Node()
    for stack, count in stacks.items():
        root.add(stack, count)
    if root.count == 0:
        raise ValueError("no samples")
    scale = (WIDTH - 2 * MARGIN) / root.count
    top = 18 * len(titles) + 16
    height = top + ROW * root.depth(LEAST / scale) + MARGIN
    parts: list[str] = []

    def draw(name: str, node: Node, x: float, level: int) -> None:
        wide = node.count * scale
        if wide < LEAST:
            return
        y = height - MARGIN - ROW * (level + 1)
        room = int((wide - 6) / CHARACTER)
        shown = name if len(name) <= room else name[:room - 2] + ".." if room >= 4 else ""
        text = f'<text x="{x + 3:.1f}" y="{y + 13}">{escape(shown)}</text>' if shown else ""
        parts.append(f'<g><title>{escape(name)}: {node.count} samples, {100 * node.count / root.count:.1f} %</title>'
                     f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW - 1}" fill="{colour(name)}"/>'
                     f'{text}</g>')
        for below, child in sorted(node.below.items()):
            draw(below, child, x, level + 1)
            x += child.count * scale
    draw("all", root, MARGIN, 0)
    head = "".join(f'<text x="{MARGIN}" y="{18 + 18 * i}" style="font-size:14px">{escape(line)}</text>'
                   for i, line in enumerate(titles))
    style = "text{font:12px sans-serif;fill:#111}g:hover rect{stroke:#000}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}"><style>{style}</style>'
            f'<rect width="100%" height="100%" fill="#fff"/>{head}{"".join(parts)}</svg>\n')
