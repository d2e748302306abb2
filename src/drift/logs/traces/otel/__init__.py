"""What OpenTelemetry and the SDKs around it write: spans, log records, and texts in attributes."""
