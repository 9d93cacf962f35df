"""Half hours of a failing lab in accelerated time: what was injected, and what came of it.

    python benchmarks/lab_faults.py [--seeds 6] [--minutes 30] [--json]

Schedulers, agents of places, the broker, clients and boards are killed, cut off and broken at random moments; messages
are lost, delayed and repeated. The scheduler over its store and the agents of places are the real ones, with their
timers, in virtual time: `tests/unit/device_lab/campaign/` says how. A board with two holders, a board that stays with
somebody who is gone for longer than TTL and grace, a job that ends twice or never, or a model that is blamed for a
board ends it with exit code 1.
"""

import argparse
import json
import logging
import sys
from collections import Counter
from dataclasses import asdict

from tests.unit.device_lab.campaign.campaign import Report, run


def main() -> int:
    """Run the campaigns and print what they came to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.lastResort = None  # thousands of warnings are what is provoked
    reports = [run(seed, options.minutes) for seed in range(1, options.seeds + 1)]
    if options.json:
        print(json.dumps([asdict(report) for report in reports]))
    else:
        _print(reports)
    for report in reports:
        for wrong in report.wrong:
            print(f"seed {report.seed}: {wrong}", file=sys.stderr)
    return int(any(report.wrong for report in reports))


def _print(reports: list[Report]) -> None:
    faults = sum((report.faults for report in reports), Counter[str]())
    ended = sum((report.ended for report in reports), Counter[str]())
    minutes = sum(report.simulated_s for report in reports) / 60
    touched = sum(report.touched for report in reports)
    print(f"{len(reports)} seeds, {minutes:,.0f} simulated minutes, {touched:,} bytes at boards")
    for fault, count in sorted(faults.items()):
        print(f"  {fault:24} {count:7,}")
    verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(ended.items()))
    print(f"{sum(r.submitted for r in reports):,} jobs submitted, {sum(ended.values()):,} ended once: {verdicts}")
    print(f"a board stayed {max(r.orphaned_s for r in reports):.1f} s at most with somebody who was gone", end="; ")
    print(f"the bound is {reports[0].bound_s:g} s")
    print(f"{sum(len(r.wrong) for r in reports)} violations")


if __name__ == "__main__":
    sys.exit(main())
