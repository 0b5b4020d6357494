"""`python -m solovox`: the command line."""

from solovox.cli import main

if __name__ == "__main__":  # processes that are spawned import this too
    main(prog_name="solovox")
