"""Tools to look at gradients and to doubt them."""
