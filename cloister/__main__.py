"""`python -m cloister` is the command `cloister`."""

from .cli import main

if __name__ == "__main__":
    main()
