"""What answers hold, for the OpenAPI document alone: a file for each API."""
