"""What a study has to compute, and what that takes: --dry_run."""
