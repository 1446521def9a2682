"""What the tests share: subjects under test, waiting with a deadline, a look at the host's processes, fresh Pythons."""
