"""The studio: a local page to see and hear what the model did, and the server behind it.

    page ── JSON, server-sent events ──► api ──► library (songs on disk) ◄── worker (one thread, one
                                          │                                  model in memory)
                                        guard: who may talk to it at all

`guard` and `api` know HTTP, `library` knows files, `worker` knows `Separator`, `pictures` what the
page draws. The page is plain modules, without a build step; docs/studio.md tells how to use both.
"""
