#!/bin/sh
# The container's first program after its init. In GitHub Actions it stays root, which the workspace needs: that belongs
# to the runner's user. Anywhere else it becomes the owner of the folder it is in, so that nothing there turns root's.
set -eu

if [ $# -eq 0 ]; then
    if [ "${GITHUB_ACTIONS:-}" = true ]; then set -- action; else set -- --help; fi
fi
# -I: neither the workspace nor PYTHON* variables decide what is imported. -B: nothing is written beside our modules.
set -- /opt/maos/bin/python -I -B -u -m maos_bot "$@"

if [ "${GITHUB_ACTIONS:-}" = true ] || [ "$(id -u)" -ne 0 ]; then exec "$@"; fi
# In an engine without root, user 0 is the user who started it.
if [ "$(awk '{ print $3; exit }' /proc/self/uid_map)" != 4294967295 ]; then exec "$@"; fi

owner=$(stat -c %u .)
group=$(stat -c %g .)
if [ "$owner" -eq 0 ]; then owner=1000 group=1000; fi
if [ "$owner" -eq 1000 ]; then HOME=/home/maos; else HOME=/tmp; fi
export HOME
exec setpriv --reuid "$owner" --regid "$group" --clear-groups --inh-caps=-all --no-new-privs -- "$@"
