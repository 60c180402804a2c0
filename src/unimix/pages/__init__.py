"""Results as HTML pages that can be sent: one file each, which needs no network and no script from elsewhere."""
