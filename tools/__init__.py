"""Command-line programs: flags, one call, an exit status."""
