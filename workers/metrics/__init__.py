"""What is measured: latency, comparisons, the figures of /stat."""
