"""Pure: frames and numbers in, frames and numbers out. No I/O, no clock, no global random state."""
