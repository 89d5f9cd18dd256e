#!/bin/sh
# Install the servers that tests start for themselves, where that can be done without asking:
# as root on Debian or Ubuntu. Elsewhere one line says what to do, and the tests that need
# a server are skipped (or fail, under CI=true).

command -v redis-server >/dev/null || command -v valkey-server >/dev/null && exit 0
[ -n "$TASKQ_TEST_REDIS_URL" ] && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo 'For the tests of the redis engine install redis-server (apt-get, dnf or brew install' \
        'redis), or name a server that may be emptied in TASKQ_TEST_REDIS_URL.' >&2
    exit 0
fi

# The package would start a service, on a port that may be in use. A script of this name
# keeps it from that; one that exists belongs to somebody else and stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
fi
export DEBIAN_FRONTEND=noninteractive
echo 'Installing redis-server for the tests ...'
{ apt-get install -qq --no-install-recommends redis-server ||
    { apt-get update -qq && apt-get install -qq --no-install-recommends redis-server; }; } \
    >/dev/null 2>&1 || echo 'redis-server could not be installed with apt-get.' >&2
exit 0
