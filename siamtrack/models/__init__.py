"""Networks, what they share, and the files their weights live in."""
