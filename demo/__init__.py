"""The demo world: a telecom's customers over two years, and what happens to them. No stage knows of it."""
