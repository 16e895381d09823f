"""Evidence producers: what signs for this worker, behind one interface."""
