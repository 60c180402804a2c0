"""Construction of the arrays that every engine receives, from a data frame and a ModelSpec."""
