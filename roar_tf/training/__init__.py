"""Training from random initialisation: schedule, pure step, loop, resume."""
