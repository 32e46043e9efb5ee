"""Other places where passes over the rows run, behind the core's protocol (docs/scale.md)."""
