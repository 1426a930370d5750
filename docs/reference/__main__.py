"""Write the generated pages, and the generated parts of the others.

python -m docs.reference            # write what has changed
python -m docs.reference --check    # write nothing; exit code 1 if something would change
"""

import sys

from docs.reference.pages import stale_pages


def main(arguments: list[str]) -> int:
    """Write or check; the exit code."""
    stale = stale_pages()
    for path, text in stale.items():
        print(path)
        if "--check" not in arguments:
            path.write_text(text)
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
