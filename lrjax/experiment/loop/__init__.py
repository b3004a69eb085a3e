"""From a config to lanes, from lanes to blocks, and the loop that trains them."""
