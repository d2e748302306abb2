"""Tracing tools and gateways, which log single model calls."""
