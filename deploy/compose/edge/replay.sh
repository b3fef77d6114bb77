#!/bin/sh
# replay.sh CSV TOPIC SECONDS: one row of a CSV every SECONDS as a JSON object, over and over; its time is when it comes.
# The columns time, anomaly and fault_kind stay at home. MQTT_PASSWORD: of the broker's user anomaly.
set -eu
while :; do
  awk -F, -v every="$3" '
    { sub(/\r$/, "") }
    NR == 1 { for (i = 1; i <= NF; i++) if ($i != "time" && $i != "anomaly" && $i != "fault_kind") name[i] = $i; next }
    {
      row = ""
      for (i = 1; i <= NF; i++) if ((i in name) && $i != "") row = row (row == "" ? "" : ", ") "\"" name[i] "\": " $i
      print "{" row "}"
      fflush()
      if (every > 0) system("sleep " every)
    }' "$1"
  [ "$3" != 0 ] || break
done | ${PUBLISH:-mosquitto_pub -h mosquitto -u anomaly -P "$MQTT_PASSWORD" -q 1 -t "$2" -l}
