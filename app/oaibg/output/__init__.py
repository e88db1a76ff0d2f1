"""Events in, lines on stdout and stderr out."""
