"""The doors: each speaks one protocol and passes every call through the gate."""
