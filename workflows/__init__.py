"""The command line, the survey loop and the clusters that it runs on."""
