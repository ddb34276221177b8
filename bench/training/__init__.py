"""One trial as its ranks run it: process group, warm-up, window, steps."""
