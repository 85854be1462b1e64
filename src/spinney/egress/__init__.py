"""Where functions may go: one policy for sandboxes with a network and for what the host fetches on their behalf."""
