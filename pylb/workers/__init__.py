"""How do several processes serve as one?

- The process that twistd started, the supervisor, binds a socket for each worker and address, and keeps them for life.  It
  carries no traffic: it starts the workers, watches them, and passes on what the operator wants.
- A worker inherits the sockets of all.  It serves its own, and those of another one that died until its successor is there.
  So clients wait in the kernel's queues, and are never refused.
- What the supervisor could read before privileges were shed (certificates, keys, the configuration), and what it opened (the
  access log), the workers inherit: they find nothing wrong that was not found at the start, and need no rights of their own.
- A worker that does not hear its supervisor any more ends, as after SIGTERM.
"""
