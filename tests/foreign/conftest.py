"""Platforms in processes of their own last as long as the run of tests."""

from tests.bridges.conftest import platforms as platforms
