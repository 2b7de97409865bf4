"""`python -m maos_bot` is `maos`."""

from maos_bot.cli import main

if __name__ == "__main__":
    main()
