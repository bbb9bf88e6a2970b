#!/bin/sh
# Replaces a backend behind the gateway: deploy.sh CONFIGURATION UPSTREAM ENDPOINT SERVICE
# The backend is a service of systemd. Its clients move to the other endpoints before it restarts.
set -eu

configuration=$1 upstream=$2 endpoint=$3 service=$4

# Returns when the endpoint has no connection. After ten minutes the deployment ends without a restart.
moongate drain -c "$configuration" "$upstream" "$endpoint" --wait --timeout 10m
systemctl restart "$service"
# The health check decides when the endpoint gets traffic again.
moongate undrain -c "$configuration" "$upstream" "$endpoint"
