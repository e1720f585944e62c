"""The SQL of `agents`: owners of tasks, their events, push, outbox, approvals of cards."""
