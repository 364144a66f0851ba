"""How fast moodsort is: `make bench`, or `python -m benchmarks --help`."""
