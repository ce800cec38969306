"""Every number of one pass, and every gradient as a sum of terms."""
