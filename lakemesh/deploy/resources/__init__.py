"""The kinds of things a deployment is made of: each knows how it is read, made, changed and removed."""
