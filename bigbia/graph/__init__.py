"""How a block function becomes a lazy image. May import hyperstack, errors and config; never operators, io or run."""
