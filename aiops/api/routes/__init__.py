"""One file per resource. A router reads through `View`, answers through `answer`, and knows no other router."""
