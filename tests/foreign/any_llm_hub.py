"""The hub with one of its extras: the extra's own environment in front of the hub's, whose directories are given.

any-llm-sdk pins an older `anthropic` than the hub's tests use, so the two cannot be installed together; presidio is 320 MB.
"""

import sys

hub, site_packages, *arguments = sys.argv[1:]
sys.path += [hub, site_packages]

from hub.cli import main  # noqa: E402

main(arguments)
