"""A batch that always fails."""

raise SystemExit(1)
