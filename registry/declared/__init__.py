"""What an operator declares: `hub.yaml` and bodies of the admin API as text, shapes and entries."""
