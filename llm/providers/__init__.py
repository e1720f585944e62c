"""Where models run: a table of services, those reached by an SDK, and the offline model."""
