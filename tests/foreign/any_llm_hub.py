"""The hub with its extra `any-llm`: any-llm-sdk's own environment in front of the hub's, whose directories are given.

any-llm-sdk pins an older `anthropic` than the hub's tests use, so the two cannot be installed together.
"""

import sys

hub, site_packages, *arguments = sys.argv[1:]
sys.path += [hub, site_packages]

from hub.cli import main  # noqa: E402

main(arguments)
