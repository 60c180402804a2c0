"""The content of a fit: its schema, tables and text."""
