"""Terraform's own checks, with google 6.50's schema."""


def test_formatted(terraform, workspace):
    formatted = terraform(workspace, "fmt", "-check", "-recursive", "-diff")
    assert formatted.returncode == 0, formatted.stdout


def test_valid(terraform, workspace):
    validated = terraform(workspace, "validate", "-no-color")
    assert validated.returncode == 0, validated.stdout + validated.stderr
