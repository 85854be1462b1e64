"""What the host does for functions while they run, each in a module: kv, environment, http, ai, email."""
