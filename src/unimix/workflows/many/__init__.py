"""Many fits, in processes or on a cluster."""
