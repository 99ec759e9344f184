"""HAProxy that decides by itself: its maps, and the socket by which they are filled."""
