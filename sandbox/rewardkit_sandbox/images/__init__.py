"""Images: the file systems that programs see, how they are built and identified."""
