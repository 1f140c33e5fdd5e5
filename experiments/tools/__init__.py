"""Commands for maintainers: benchmarks, rates, results."""
