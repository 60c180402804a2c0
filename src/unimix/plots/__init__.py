"""Drawing: matplotlib figures from data frames."""
