"""Where each millisecond of a frame goes, for every engine and thread count, in one run."""
