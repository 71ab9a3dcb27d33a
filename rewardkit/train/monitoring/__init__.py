"""What is measured, watched and shown while a run goes on."""
