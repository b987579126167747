"""Units of work on a Ray cluster: what waits for what, driver and workers."""
