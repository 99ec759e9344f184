"""What the addresses of the Developer API share: fields, parameters, problems, and its OpenAPI document."""
