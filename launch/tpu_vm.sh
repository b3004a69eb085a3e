#!/usr/bin/env bash
# The jobs one after the other, each on all hosts of a TPU VM at once. `python -m launch.jobs --target=tpu_vm` fills in the
# names in double braces.
set -uo pipefail

failed=0
run() {
  local attempt status
  for ((attempt = 1; attempt <= {{ attempts }}; attempt++)); do
    gcloud compute tpus tpu-vm ssh {{ tpu }} --zone={{ zone }} --worker=all --command="$1"
    status=$?
    case "$status" in
    0) return ;;
    75 | 255) sleep 10 ;; # preempted, or the connection was lost: the same command goes on
    *) break ;;
    esac
  done
  echo "failed with status $status: $1" >&2
  failed=1
}

{% if runs %}
{{ runs }}
{% endif %}
exit "$failed"
