#!/bin/bash
# Proves the built image: run in a sandbox of it, without a network.
set -euo pipefail

test "$(id -u)" = 0
grep -q 'VERSION_ID="12"' /etc/os-release
test "$PWD" = /testbed && touch written && rm written
for program in apt-get bash curl file gcc g++ git less make nano pip ps python python3 rsync unzip uv wget xz zip; do
    command -v "$program" > /dev/null || { echo "$program is missing"; exit 1; }
done

# packages are whole, and apt can go on from here
test -z "$(dpkg --audit)"
apt-get check -qq
test -s /etc/ssl/certs/ca-certificates.crt
dpkg -V coreutils libc6 apt

# what is built and run in it
printf '#include <stdio.h>\nint main(void) { return puts("42") < 0; }\n' > /tmp/a.c
gcc -o /tmp/a /tmp/a.c && test "$(/tmp/a)" = 42
git init -q /tmp/repository
python3 -c 'import ssl, sqlite3, venv, zlib'
python3 -m venv --without-pip /tmp/venv && /tmp/venv/bin/python -c ''
rm -r /tmp/a /tmp/a.c /tmp/repository /tmp/venv

# roots of programs' own: what package scripts call
useradd --create-home someone && id someone > /dev/null && userdel someone && rm -r /home/someone
install -o daemon -g daemon -m 600 /dev/null /tmp/owned && rm /tmp/owned
