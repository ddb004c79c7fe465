"""Video in and out: sources, drawing, the window, sinks."""
