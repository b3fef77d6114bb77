#!/bin/sh
# Another version on a machine with systemd, and back again by itself when it does not get healthy. As root:
#   python3 -m venv /opt/anomaly-0.9.0 && /opt/anomaly-0.9.0/bin/pip install anomaly-pipeline==0.9.0       (or install.sh of an air-gapped folder)
#   sh upgrade.sh /opt/anomaly-0.9.0
# /opt/anomaly has to be a link to the version in use (once: mv /opt/anomaly /opt/anomaly-0.8.0; its scripts name the old path: install anew there).
# Back again by hand, any time later: sh upgrade.sh /opt/anomaly-0.8.0
# The store is backed up first; when the new version fails it is put back as it was, since an older version cannot open a newer store.
# Other places: SERVICE, LINK, STORE, BACKUPS, HEALTH, WAIT_S from the environment.
set -eu
new="${1:?say which version: sh upgrade.sh /opt/anomaly-0.9.0}"
service="${SERVICE:-anomaly-box}" link="${LINK:-/opt/anomaly}" store="${STORE:-/var/lib/anomaly}" backups="${BACKUPS:-/var/backups/anomaly}"
health="${HEALTH:-http://127.0.0.1:9464/healthz}" wait_s="${WAIT_S:-900}" # a first start may compile for a GPU
here="$(cd "$(dirname "$0")" && pwd)"
[ -L "$link" ] || { echo "error: $link is no link; the head of this file says how to make it one" >&2; exit 2; }
old="$(readlink -f "$link")"
"$new/bin/anomaly" --version || { echo "error: $new/bin/anomaly does not run; nothing was changed" >&2; exit 2; }

point() { # the link names the old version or the new one at any moment
  ln -sfn "$1" "$link.new"
  mv -T "$link.new" "$link"
}

healthy() { # within wait_s, and still after 5 s
  "$new/bin/python" - "$health" "$wait_s" <<'PY'
import sys, time, urllib.request
ask, until = urllib.request.build_opener(urllib.request.ProxyHandler({})), time.monotonic() + float(sys.argv[2])
since = None
while time.monotonic() < until or since is not None:
    try:
        ask.open(sys.argv[1], timeout=8)
        since = since or time.monotonic()
        if time.monotonic() - since >= 5:
            sys.exit(0)
    except OSError:
        since = None
    time.sleep(0.5)
sys.exit(1)
PY
}

mkdir -p "$backups"
backup="$backups/before-$(basename "$new")-$(date +%Y%m%dT%H%M%S).tar"
systemctl stop "$service"
"$new/bin/python" "$here/backup.py" make "$backup" "$store" || { systemctl start "$service"; echo "error: no back-up, so no upgrade; $old runs again" >&2; exit 1; }
point "$new"
if systemctl start "$service" && healthy; then
  echo "$service runs from $new; the store of before is in $backup"
  exit 0
fi
systemctl stop "$service" || true
point "$old"
"$new/bin/python" "$here/backup.py" restore "$backup" --replace
systemctl start "$service"
echo "error: $new did not get healthy; $old runs again, with its store of before. Why: journalctl -u $service" >&2
exit 1
