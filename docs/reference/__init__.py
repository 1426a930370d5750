"""Pages of the documentation that are written by the code they describe: `make docs-pages` writes them anew."""
