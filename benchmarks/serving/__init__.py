"""Serving measured beside peers in one run: requests a second, latency, batches, swaps, memory."""
