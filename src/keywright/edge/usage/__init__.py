"""How this edge's processes count what keys did, and how their counts get to the origin, once and only once."""
