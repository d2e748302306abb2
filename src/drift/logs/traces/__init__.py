"""Turn single model calls, as tracing tools log them, into conversations."""
