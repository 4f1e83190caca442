"""A configuration file as nested dictionaries: {"store lake": {"backend": "s3"}, "cache": {...}}."""

from __future__ import annotations

from pathlib import Path

Sections = dict[str, dict[str, object]]


def value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def conf_text(sections: Sections) -> str:
    lines: list[str] = []
    for name, pairs in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {value_text(value)}" for key, value in pairs.items()]
        lines.append("")
    return "\n".join(lines)


def write_conf(path: Path, sections: Sections | str) -> Path:
    path.write_text(sections if isinstance(sections, str) else conf_text(sections))
    path.chmod(0o600)
    return path


def merged(*parts: Sections) -> Sections:
    whole: Sections = {}
    for part in parts:
        for name, pairs in part.items():
            whole.setdefault(name, {}).update(pairs)
    return whole
