"""What the server observes of itself: OpenTelemetry in, Delta tables out."""
