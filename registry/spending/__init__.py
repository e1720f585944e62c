"""What calls used and may still use: counters, task trees, usage rows."""
