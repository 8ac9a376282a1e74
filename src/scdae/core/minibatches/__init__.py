"""Order of the cells, their corruption, and their distribution over devices and processes."""
