"""What a process counts, and how the counts of all workers become one scrape."""
