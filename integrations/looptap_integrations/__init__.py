"""One file or folder per framework. Each imports its framework and looptap's public names, never another integration."""
