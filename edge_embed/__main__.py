"""The `edge-embed` command; without its libraries it says how to get them."""

import sys


def main() -> None:
    """Run the command line; exits with 0 done, 1 failed, 2 wrong usage."""
    try:
        from edge_embed.cli import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"edge-embed needs {error.name} for its command line: pip install 'edge-embed[cli]'")
    run()


if __name__ == "__main__":
    main()
