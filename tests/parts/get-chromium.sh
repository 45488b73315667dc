#!/usr/bin/env bash
# A Chromium and its driver, as Debian packages. Idempotent, safe to run twice at once. Prints chromedriver's path on stdout; it finds the browser itself.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"; . "$here/lib.sh"
one_at_a_time chromium
need_debian chromium=chromium chromedriver=chromium-driver
chromium --version >&2 9>&-
command -v chromedriver
