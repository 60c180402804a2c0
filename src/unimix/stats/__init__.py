"""Statistics from estimates: tests, intervals, influence, multiplicity, partitions of variance."""
