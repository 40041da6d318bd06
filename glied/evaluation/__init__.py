"""What captioners and regions are worth: metrics, reports, grounding, recall."""
