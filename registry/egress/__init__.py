"""The one guarded, pooled way out of the hub."""
