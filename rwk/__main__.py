"""``python -m rwk``."""

from rwk import main

main()
