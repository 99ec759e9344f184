"""The reference of the Developer API as pages: from the OpenAPI document to HTML."""
