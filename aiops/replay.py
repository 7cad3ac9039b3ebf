"""(to be filled) replay."""
