"""Sources, transforms and sinks that do no I/O."""
