"""Training jobs on a GPU cluster in virtual time: the real decision core and policies run on it, beside other schedulers."""
