"""The settings of the objectives that methods beside MSC bring. No torch here: every job of a cluster reads them."""
