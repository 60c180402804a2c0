"""Many fits: formulas by data sets by engines, kept on disk as they come."""
