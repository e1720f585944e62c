"""The hub itself: composition root, ASGI application, doors, admin API and command line."""
