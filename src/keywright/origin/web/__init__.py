"""What the pages of both portals share: router, forms, layouts, cookies, templates. Rules are in the nouns."""
