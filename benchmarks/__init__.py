"""Speed and memory against peers, in one run each: `make bench`."""
