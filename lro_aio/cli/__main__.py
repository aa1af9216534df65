"""``python -m lro_aio.cli``: the same as ``lro``."""

from lro_aio.cli import main

main()
