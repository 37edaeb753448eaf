"""Drift detection measured: false alarms, power, days to detect, speed and memory, beside peers in one run."""
