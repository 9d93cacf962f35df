"""``python -m edgeloop.contracts write|check|freeze``. Exit codes: 0 ok, 1 a check failed, 2 usage, 3 tools missing."""

import argparse
import difflib
import sys
from pathlib import Path
from typing import Final

from edgeloop.contracts import freeze, history
from edgeloop.contracts.freeze import FROZEN_PATH, Frozen
from edgeloop.contracts.protobuf import CompilerMissingError
from edgeloop.contracts.render import Rendered, render, stale

ROOT: Final = Path(__file__).resolve().parents[2]
EXIT_OK, EXIT_FAILED, EXIT_INFRASTRUCTURE = 0, 1, 3
_DIFF_LINES: Final = 40


def main(arguments: list[str] | None = None, *, root: Path = ROOT) -> int:
    """Run one of the commands and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m edgeloop.contracts", description="Render and check the contract.")
    commands = {"write": _write, "check": _check, "freeze": _freeze}
    parser.add_argument("command", choices=commands, help="write proto/ and tables, check them, or freeze a release")
    command = commands[parser.parse_args(arguments).command]
    try:
        return command(root, render(root))
    except CompilerMissingError as error:
        return _fail(EXIT_INFRASTRUCTURE, [str(error)])
    except ValueError as error:
        return _fail(EXIT_FAILED, [str(error)])


def _write(root: Path, rendered: Rendered) -> int:
    broken = freeze.violations(_frozen(root), rendered.schemas)
    if broken:
        return _fail(EXIT_FAILED, [*broken, "nothing was written; next: put the change into a new major version"])
    for name in _differing(root, rendered):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rendered.files[name], encoding="utf-8")
        _say(f"wrote {name}")
    for name in stale(root, rendered):
        (root / name).unlink()
        _say(f"removed {name}")
    return _fail(EXIT_FAILED, list(rendered.problems)) if rendered.problems else EXIT_OK


def _check(root: Path, rendered: Rendered) -> int:
    found = [line for name in _differing(root, rendered) for line in _diff(root, rendered, name)]
    found += [f"{name}: nothing renders it any more" for name in stale(root, rendered)]
    if found:
        found.append("generated files differ from the code; next: make schemas")
    found += rendered.problems
    frozen = _frozen(root)
    broken = freeze.violations(frozen, rendered.schemas)
    earlier = history.baselines(root)
    for baseline in earlier:
        reasons = freeze.violations(baseline.frozen, rendered.schemas)
        broken += [f"{reason} [against {baseline.role}, {baseline.revision}]" for reason in reasons]
    if broken:
        broken.append("a frozen contract would break; next: put the change into a new major version")
    if found or broken:
        return _fail(EXIT_FAILED, [*found, *broken])
    _say(f"{len(rendered.files)} generated files match the code")
    _say(_compared(frozen, earlier))
    return EXIT_OK


def _freeze(root: Path, rendered: Rendered) -> int:
    differing = [*_differing(root, rendered), *stale(root, rendered)]
    if differing:
        return _fail(EXIT_FAILED, [*differing, "these differ from the code; next: make schemas, and look at the diff"])
    broken = freeze.violations(_frozen(root), rendered.schemas)
    if broken:
        return _fail(EXIT_FAILED, [*broken, "nothing was frozen; next: put the change into a new major version"])
    (root / FROZEN_PATH).write_text(freeze.render(Frozen(rendered.version, rendered.schemas)), encoding="utf-8")
    _say(f"{len(rendered.schemas)} schemas are frozen as of {rendered.version}; commit {FROZEN_PATH}")
    return EXIT_OK


def _frozen(root: Path) -> Frozen:
    path = root / FROZEN_PATH
    return freeze.parse(path.read_text("utf-8")) if path.exists() else Frozen()


def _compared(frozen: Frozen, earlier: list[history.Baseline]) -> str:
    if not frozen.schemas:
        return "nothing is frozen yet: a release begins it with `python -m edgeloop.contracts freeze`"
    against = ", ".join(f"{baseline.role} {baseline.revision}" for baseline in earlier)
    return f"{len(frozen.schemas)} schemas are compatible with {frozen.version}" + (
        f" and with what {against} froze" if against else "; no git history here to compare the baseline itself with"
    )


def _differing(root: Path, rendered: Rendered) -> list[str]:
    return [name for name, text in rendered.files.items() if _on_disk(root, name) != text]


def _on_disk(root: Path, name: str) -> str | None:
    path = root / name
    return path.read_text("utf-8") if path.exists() else None


def _diff(root: Path, rendered: Rendered, name: str) -> list[str]:
    committed = _on_disk(root, name)
    if committed is None:
        return [f"{name}: is missing"]
    before, after = committed.splitlines(), rendered.files[name].splitlines()
    lines = list(difflib.unified_diff(before, after, f"{name} (committed)", f"{name} (from the code)", lineterm=""))
    cut = [f"… {len(lines) - _DIFF_LINES} more lines"] if len(lines) > _DIFF_LINES else []
    return [*lines[:_DIFF_LINES], *cut]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _fail(code: int, lines: list[str]) -> int:
    sys.stderr.write("\n".join(lines) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
