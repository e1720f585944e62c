"""What was done and refused, as a chain of digests."""
