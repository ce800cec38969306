"""A page that explains the backward pass of one text: every value and gradient, and what each is the sum of."""
