"""Files that people write, read with the place of every value; knows no testbed."""
