"""Parts of pages that draw one figure or table."""
