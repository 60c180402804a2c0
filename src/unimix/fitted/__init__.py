"""What a fit holds: its schema, tables and text."""
