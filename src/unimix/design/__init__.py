"""From a data frame and a ModelSpec to the arrays that every engine is given."""
