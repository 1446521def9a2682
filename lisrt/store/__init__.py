"""Images at rest: one compressed file per layer, named by its digest, and small records that say what is made of them.

Nothing in here knows a sandbox. `home` has the place and its lock, `blobs` the files, `record` and `catalog` what there is,
`archive` and `unpack` go from a layer's tar to a tree, `pack` back, `cache` keeps the trees of this host.

What comes in goes through `intake`: from files by `imports` and `bundle`, from registries by `pull`, `registry` and `web`
(`reference` and `credentials` say which and as whom). `manifest` reads what OCI and Docker say, `export` writes it.
"""
