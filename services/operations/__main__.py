"""What an operator does by hand: dead-letter messages replayed, uploads that were never announced found.

    python -m services.operations replay --step score_scan [--dry] [--since 2026-01-31T12:00] [--reason "..."]
    python -m services.operations reconcile [--dry] [--grace-s 3600]

Exit status: 0 if nothing is left undone, 1 if something is (or, with --dry, would be announced), 2 for wrong arguments.
It works on the project that the environment names (GOOGLE_CLOUD_PROJECT and Terraform's own names of buckets and
dataset; NAME_PREFIX where the environment has a prefix), or on the system that `make demo` runs here.
"""

import argparse
import json
import sys
from datetime import UTC, datetime, timedelta

from shared.gcp.environment import settle_environment

_STEPS = ("validate_scan", "record_scan", "score_scan", "write_features", "record_dead_letter")


def main() -> int:
    """Run a command and return the exit status."""
    arguments = _arguments()
    if not settle_environment():
        sys.exit("Set GOOGLE_CLOUD_PROJECT, or start the system here: make demo")
    return _replay(arguments) if arguments.command == "replay" else _reconcile(arguments)


def _replay(arguments: argparse.Namespace) -> int:
    from shared.gcp.replay import replay  # noqa: PLC0415 - reads the environment that was settled above

    done = replay(arguments.step, since=arguments.since, reason=arguments.reason, dry=arguments.dry)
    would = "would be replayed" if arguments.dry else "replayed"
    print(f"{done.found:,} dead-letter messages of {done.step}:", end=" ")
    print(f"{done.replayed:,} {would}, {done.set_aside:,} set aside")
    return 1 if done.set_aside else 0


def _reconcile(arguments: argparse.Namespace) -> int:
    from shared.gcp import accounting, announcing  # noqa: PLC0415 - as above

    before = datetime.now(UTC) - timedelta(seconds=arguments.grace_s)
    if arguments.dry:
        checks = accounting.account(before)
        for check in checks:
            print(json.dumps(check.row()))
        return 0 if all(check.passed for check in checks) else 1
    uploads = announcing.announce_uploads(accounting.undone_uploads(before))
    print(f"Announced again: {uploads:,} uploads, {announcing.announce_scans(before):,} scans")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.operations", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    replaying = commands.add_parser("replay", help="move dead-letter messages back to their step alone")
    replaying.add_argument("--step", required=True, choices=_STEPS)
    replaying.add_argument("--since", type=_time, help="only messages first published since then (UTC)")
    replaying.add_argument("--reason", default="", help="why, for the record")
    reconciling = commands.add_parser("reconcile", help="announce again what is neither recorded nor done")
    reconciling.add_argument("--grace-s", type=float, default=3600, help="what is younger may still be under way")
    for command in (replaying, reconciling):
        command.add_argument("--dry", action="store_true", help="say what would be done")
    return parser.parse_args()


def _time(text: str) -> str:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


if __name__ == "__main__":
    sys.exit(main())
