"""Models of channel block in NMDA receptors."""
