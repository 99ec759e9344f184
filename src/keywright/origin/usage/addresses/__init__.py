"""From where keys were used, by day, in buckets that wish it: the most frequent networks, and how many there were."""
