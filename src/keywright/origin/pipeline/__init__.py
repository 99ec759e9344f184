"""The steps of a management request, in the order in which they are taken."""
