"""The command line: wiring only; heavy imports happen inside the commands."""
