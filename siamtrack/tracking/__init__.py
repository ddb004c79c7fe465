"""The tracking loop: state, localisation, presence, one target and many."""
