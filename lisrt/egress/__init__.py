"""The way out of a sandbox whose network is a Proxy: rules, and one proxy of this process that keeps them."""
