"""Jobs over processes and clusters."""
