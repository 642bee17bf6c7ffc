"""Search over jobs: trials wait in the queue like everybody else, and those that fall behind give their place away."""
