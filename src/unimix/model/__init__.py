"""What is fitted: formula, data, design, family; knows no engine."""
