"""looptap: auto-logging for deep learning. (The public names land when the journal has; import the submodules until then.)"""
