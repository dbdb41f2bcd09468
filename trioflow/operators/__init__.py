"""Items in, items out: sources, transforms and sinks that do no I/O."""
