"""`python -m noria`, for where this Python's folder of programs is not on the PATH."""

from noria.cli.main import main

if __name__ == "__main__":
    main()
