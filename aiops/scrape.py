"""(to be filled) scrape."""
