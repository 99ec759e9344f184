"""What an end user may do, with the consumers that the user manages and with no others."""
