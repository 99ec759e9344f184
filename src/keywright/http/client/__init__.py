"""A lean client of HTTP/1.1: small questions to one server, with small answers, on connections that are kept."""
