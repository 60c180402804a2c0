"""What is asked of a fitted model: tests, marginal means, intervals, summaries."""
