"""What keys did: counts of validations that edges hand in, kept by hour and day, and when each key was last used."""
