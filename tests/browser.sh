#!/bin/sh
# Install the browser that tests drive, where that can be done without asking: as root on
# Debian or Ubuntu. Elsewhere one line says what to do, and the tests that need a browser are
# skipped (or fail, under CI=true).

for program in chromium chromium-browser google-chrome; do
    command -v $program >/dev/null && exit 0
done

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo 'For the tests in a browser install chromium (apt-get, dnf or brew install chromium).' >&2
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
echo 'Installing chromium for the tests ...'
{ apt-get install -qq --no-install-recommends chromium ||
    { apt-get update -qq && apt-get install -qq --no-install-recommends chromium; }; } \
    >/dev/null 2>&1 || echo 'chromium could not be installed with apt-get.' >&2
exit 0
