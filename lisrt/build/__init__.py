"""From a recipe to an image of the store, as an ordinary user.

`recipe` says what is wanted and `lock` in which versions; `mirror`, `debian`, `bootstrap` make a first layer of Debian packages
without any tool of Debian's; `steps` run in sandboxes, each becoming a layer; `cache` knows the layers that there are;
`surroundings` has what of the host a build may use, and an image must not keep. `build` is the story.
"""
