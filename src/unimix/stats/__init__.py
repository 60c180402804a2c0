"""Statistics from estimates: tests, intervals, influence, multiplicity and partitions of variance."""
