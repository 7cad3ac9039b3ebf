"""A GPU cluster in virtual time: the real decision core and real policies run on it, beside baselines in the same world."""
