#!/bin/sh
# What starts in every container: the clock and the hooks of a fault come from a mounted file, so that `docker inspect` does not tell them.
[ -r /run/lab/env ] && . /run/lab/env
exec "$@"
